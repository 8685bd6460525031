from __future__ import annotations

import csv
import re
import statistics
from urllib.parse import unquote

import pytest
from PIL import Image

from gmconv_mmdet.files import write_json
from gmconv_mmdet.lab.reproduce.paper import COCO_METRICS
from gmconv_mmdet.lab.reproduce.report.paper_table import Table, markdown, write_report
from gmconv_mmdet.lab.reproduce.run_folder import RunFolder
from gmconv_mmdet.lab.reproduce.table import Row, select_rows

BASE, GM = Row('faster-rcnn', 'r50'), Row('faster-rcnn', 'r50-gm-stem-l1')


def finished(root, row, seed, ap, rehearsal=False, **other) -> RunFolder:
    """A finished run on disk whose metrics are ap, ap + 1, ..."""
    run = RunFolder(root, row, seed, rehearsal)
    run.train_dir.mkdir(parents=True)
    files = dict(config='config.py', output='output.log', launches='launches.jsonl',
                 checkpoint='train/epoch_12.pth')
    for name in files.values():
        (run.path / name).write_text('')
    metrics = {name: ap + i for i, name in enumerate(COCO_METRICS)}
    write_json(run.result, dict(dict(
        schema=1, row=row.name, detector=row.detector, backbone=row.backbone, seed=seed,
        rehearsal=rehearsal, metrics=metrics, notes=[], files=files, checkpoint_sha256='ab' * 32,
        config_sha256='cd' * 32, batch_size=16, weights='w.pth', code=['12' * 20 + '+changes'],
        environment=dict(torch='2.13.0')), **other))
    return run


def rows_of(text, title):
    """Cells of the first Markdown table below a heading, without its header."""
    lines = text[text.index(title):].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith('|'))
    table = []
    for line in lines[first:]:
        if not line.startswith('|'):
            break
        table.append([cell.strip() for cell in line.strip('|').split('|')])
    return table[2:]


@pytest.fixture
def runs(tmp_path):
    """Baseline with seeds 0, 1, 2, a GM row with seeds 0, 2, 7."""
    return ([finished(tmp_path, BASE, seed, ap) for seed, ap in ((0, 30.0), (1, 90.0), (2, 31.0))]
            + [finished(tmp_path, GM, seed, ap) for seed, ap in ((0, 30.5), (2, 32.5), (7, 10.0))])


def test_numbers_stand_beside_the_papers(runs, tmp_path):
    table = Table('III', runs[:1], rehearsal=False)
    first, second = rows_of(markdown(table, tmp_path, 'f.png'), '## faster-rcnn')
    assert first[:5] == ['`r50`', '37.0', '30.0', '57.8', '31.0']
    assert second == ['`r50-gm-stem-l1-l4`', '37.8', '', '58.6', '', '40.8', '', '21.6', '', '41.8',
                      '', '48.6', ''], 'nothing measured, nothing printed'


def test_mean_spread_and_gain_over_seeds(runs):
    table = Table('V', runs, rehearsal=False)
    ap = table.measured(BASE, 'AP')
    assert ap.mean == pytest.approx(151 / 3) and ap.seeds == 3
    assert ap.spread == pytest.approx(statistics.stdev([30, 90, 31]))
    # Seeds 0 and 2 are common to both: gains 0.5 and 1.5.
    gain = table.gain(GM, 'AP')
    assert (gain.mean, gain.seeds) == (1.0, 2) and gain.spread == pytest.approx(0.5**0.5)
    assert gain.text('+') == '+1.0 ± 0.7 (2)'
    assert table.gain(BASE, 'AP') is None
    assert table.gain(Row('cascade-rcnn', 'r50-gm-stem-l1'), 'AP') is None
    assert Table('V', runs[:1], False).measured(BASE, 'AP').text() == '30.0'


def test_every_number_links_to_what_it_comes_from(runs, tmp_path):
    out = tmp_path / 'my (reports)'
    path = write_report(Table('V', runs, False), out)[0]
    lines = rows_of(path.read_text(), '## Where the numbers come from')
    assert len(lines) == 6
    for cells in lines:
        links = re.findall(r'\]\(<(.*?)>\)', '|'.join(cells))
        assert len(links) == 4 and all((out / unquote(link)).is_file() for link in links)
        assert '[abababababab]' in cells[4] and cells[5] == '`121212121212+changes`'
    assert 'Environment 1: torch 2.13.0.' in path.read_text()


def test_a_rehearsal_says_so_everywhere(tmp_path):
    run = finished(tmp_path, BASE, 0, 1.0, rehearsal=True)
    paths = write_report(Table('V', [run], True), tmp_path / 'rehearsal')
    assert [path.name for path in paths] == [f'rehearsal-table-V{suffix}'
                                             for suffix in ('.md', '.csv', '.png')]
    text = paths[0].read_text()
    assert text.startswith('# Rehearsal of Table V') and '**REHEARSAL: ' in text
    assert all('rehearsal' in line for line in text.splitlines() if line.startswith('| row | AP'))
    assert {line['rehearsal'] for line in csv.DictReader(paths[1].open())} == {'yes'}
    assert 'ehearsal' not in markdown(Table('V', [], False), tmp_path, 'f.png')


@pytest.mark.parametrize('table', ['III', 'V'])
def test_the_figure_is_drawn_with_and_without_measurements(table, runs, tmp_path):
    known = [run for run in runs if run.row in select_rows(table)]
    for name, some in (('without', []), ('with', known)):
        figure = write_report(Table(table, some, False), tmp_path / name)[2]
        with Image.open(figure) as image:
            assert image.width > 800 and image.height > 400
