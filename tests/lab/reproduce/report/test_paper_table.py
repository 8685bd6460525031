from __future__ import annotations

import csv
import io
import re
import statistics
from urllib.parse import unquote

import pytest
from PIL import Image

from gmconv_mmdet.files import write_json
from gmconv_mmdet.lab.reproduce.paper import COCO_METRICS
from gmconv_mmdet.lab.reproduce.report.paper_table import Table, csv_text, markdown, write_report
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


def test_paper_gains_are_differences_of_its_cells():
    table = Table('V', [], rehearsal=False)
    assert table.paper_gain(GM, 'APM') == 1.4
    assert table.paper_gain(Row('faster-rcnn', 'r50-gm-stem-l1-dcn-l2-l4'), 'APL') == -0.5
    assert table.paper_gain(BASE, 'AP') is None


def test_a_size_without_objects_is_an_empty_cell(tmp_path):
    metrics = dict(dict.fromkeys(COCO_METRICS, 10.0), APL=None)
    run = finished(tmp_path, BASE, 0, 0, metrics=metrics, notes=['APL: no such object in the data'])
    text = markdown(Table('V', [run], False), tmp_path, 'f.png')
    assert rows_of(text, '## faster-rcnn')[0] == ['`r50`', '37.0', '10.0', '21.2', '10.0', '40.6',
                                                  '10.0', '48.3', '']
    assert 'APL: no such object' in rows_of(text, '## Where')[0][-1]


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


def test_departures_from_the_recipe_are_said(tmp_path):
    run = finished(tmp_path, BASE, 0, 1.0, batch_size=2, weights=None, notes=['counted as 0'])
    notes = rows_of(markdown(Table('V', [run], False), tmp_path, 'f.png'), '## Where')[0][-1]
    assert notes == ('counted as 0; batch 2, learning rate scaled from the paper\'s 16; backbone '
                     'from random weights')


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


def test_rows_can_be_chosen_and_keep_their_baseline(runs, tmp_path):
    table = Table('V', runs, False, [GM])
    text = markdown(table, tmp_path, 'f.png')
    assert [cells[0] for cells in rows_of(text, '## faster-rcnn')] == ['`r50-gm-stem-l1`']
    assert '## cascade-rcnn' not in text and table.gain(GM, 'AP').seeds == 2
    assert write_report(table, tmp_path / 'out')[2].is_file()


def test_csv_holds_a_line_for_each_row_and_metric(runs):
    lines = list(csv.DictReader(io.StringIO(csv_text(Table('V', runs, False)))))
    assert len(lines) == 14 * 4
    line = next(line for line in lines if line['backbone'] == GM.backbone
                and (line['detector'], line['metric']) == ('faster-rcnn', 'AP'))
    assert line['paper'] == '37.9' and line['paper_gain'] == '0.9' and line['baseline'] == 'r50'
    assert (line['measured_gain_mean'], line['gain_seeds'], line['seeds']) == ('1.000', '2', '3')
    empty = next(line for line in lines if line['detector'] == 'cascade-rcnn')
    assert empty['measured_mean'] == empty['measured_std'] == '' and empty['seeds'] == '0'


@pytest.mark.parametrize('table', ['III', 'V'])
def test_the_figure_is_drawn_with_and_without_measurements(table, runs, tmp_path):
    known = [run for run in runs if run.row in select_rows(table)]
    for name, some in (('without', []), ('with', known)):
        figure = write_report(Table(table, some, False), tmp_path / name)[2]
        with Image.open(figure) as image:
            assert image.width > 800 and image.height > 400
