import json
import re
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from xml.etree import ElementTree

import pytest

from .reproduce.report.test_comparison import result_of


@pytest.fixture
def rewrite(repo):
    spec = spec_from_file_location('results_page', repo / 'tools' / 'dev' / 'results_page.py')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.rewrite


def test_tables_and_picture_come_from_the_json_and_stay(repo, rewrite, tmp_path):
    shutil.copy(repo / 'docs' / 'results.md', tmp_path)
    folder = tmp_path / 'data' / 'deeppcb'
    folder.mkdir(parents=True)
    for variant, seed, ap in (('plain', 0, 30.0), ('plain', 1, 31.0), ('gm', 0, 30.5),
                              ('gm', 1, 32.5)):
        (folder / f'{variant}-seed{seed}.json').write_text(json.dumps(result_of(variant, seed, ap)))
    rewrite(tmp_path)
    page = (tmp_path / 'results.md').read_text()
    assert '| gm | 2 | +1.00 [-5.35, +7.35] |' in page
    assert '| gm | 2 | 6.0 to 6.0 | 10.0 to 10.0 | none |' in page
    assert page.count('No run is finished.') == 5
    ElementTree.parse(tmp_path / 'images' / 'deeppcb-differences.svg')
    rewrite(tmp_path)
    assert (tmp_path / 'results.md').read_text() == page


def test_fields_are_paired_by_seed(repo, rewrite, tmp_path):
    shutil.copy(repo / 'docs' / 'results.md', tmp_path)
    (tmp_path / 'data' / 'fields').mkdir(parents=True)
    for seed, gm in ((0, 22), (1, 23)):
        (tmp_path / 'data' / 'fields' / f'seed{seed}.csv').write_text(
            'model,map,count,radius,r_50,r_99\n'
            f'plain,C5/small,20,{20 + seed},0.01,0.5\n'
            f'gm,C5/small,20,{gm},0.02,0.5\n'
            'gm,C5/large,1,30,0.02,0.5\n')
    rewrite(tmp_path)
    page = (tmp_path / 'results.md').read_text()
    assert '| C5/small | plain | 0 1 | 20.5 ± 0.7 |  | 1.00 ± 0.00 |' in page
    assert '| C5/small | gm | 0 1 | 22.5 ± 0.7 | +2.0 [+2.0, +2.0] |' in page
    assert 'C5/large' not in page


def test_the_page_shows_what_docs_data_holds(repo, rewrite, tmp_path):
    docs = tmp_path / 'docs'
    shutil.copytree(repo / 'docs', docs)
    rewrite(docs)
    assert (docs / 'results.md').read_text() == (repo / 'docs' / 'results.md').read_text(), (
        'bash tools/dev/evidence.sh pages')


def test_what_is_kept_names_no_folder_of_a_machine(repo):
    kept = list((repo / 'docs' / 'data').rglob('*.json'))
    assert kept and not [path for path in kept if re.search(r'"/(?!/)[\w.-]+/', path.read_text())]
