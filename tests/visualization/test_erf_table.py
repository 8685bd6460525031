"""Numbers and pictures of measurements made of maps with known fields."""
import csv

import numpy as np
import pytest

from gmconv_mmdet.visualization.erf import SHARES
from gmconv_mmdet.visualization.erf_picture import write_gallery
from gmconv_mmdet.visualization.erf_result import Contribution, ErfResult, result_file
from gmconv_mmdet.visualization.erf_table import all_measures, as_text, measures


def square(side, size=101):
    """A uniform square in the centre of a map."""
    erf_map = np.zeros((size, size))
    inside = slice((size - side) // 2, (size + side) // 2)
    erf_map[inside, inside] = 1 / side**2
    return erf_map


def network_result(label, side):
    result = ErfResult(dict(mode='network', label=label, weights='random weights',
                            outputs=['C5', 'P2'], size=101, images='images'))
    for i in range(3):
        result.add(f'{i}.jpg', [Contribution('P2', square(21), {}),
                                Contribution('C5', square(side), {})])
    return result


def objects_result(label):
    result = ErfResult(dict(mode='objects', label=label, weights='weights of x.pth',
                            annotations='a.json', objects=[1, 2], crop=101, size=None))
    for i, (band, inside) in enumerate([('large', .5), ('small', .25), ('small', .75)]):
        row = dict(annotation=i, level='P3', box=[-10, -5, 20 + i, 15], inside=inside, in_crop=1.,
                   radius=3. + i)
        result.add(f'{i}.jpg', [Contribution(f'{kind}/{band}', square(41), row)
                                for kind in ('P', 'C5')])
    return result


def test_a_uniform_square():
    row = measures(network_result('net', 41), 'C5')
    for t in SHARES:
        side = row[f'side_{100 * t:.0f}']
        assert row[f'log_side_{100 * t:.0f}'] == side  # a constant's logarithm is constant
        assert side % 2 and side**2 > t * 41**2 >= (side - 2)**2
        assert row[f'r_{100 * t:.0f}'] == pytest.approx(side**2 / 101**2)
    assert row['radius'] == pytest.approx((2 * (41**2 - 1) / 12)**0.5)
    assert (row['model'], row['map'], row['count']) == ('net', 'C5', 3)


def test_models_side_by_side():
    rows = all_measures([network_result('a', 21), network_result('b', 41)])
    assert [(row['map'], row['model']) for row in rows] == [
        ('C5', 'a'), ('C5', 'b'), ('P2', 'a'), ('P2', 'b')]  # in the order asked for
    text = as_text(rows)
    assert '11 / 13 / 15 / 21' in text and 'in box' not in text
    rows = all_measures([objects_result('a')])
    assert [row['map'] for row in rows] == ['C5/small', 'C5/large', 'P/small', 'P/large']
    assert 'in box %' in as_text(rows)


@pytest.mark.slow
def test_folder(tmp_path):
    assert result_file(tmp_path, 'a, x/y') == tmp_path / 'a-x-y.npz'
    results = [network_result('a', 21), network_result('b', 41)]
    results[1].skipped['9.jpg'] = '9.jpg: no image'
    assert write_gallery(results, tmp_path).endswith('skipped 9.jpg: no image')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['erf.csv', 'erf_network.png']
    with (tmp_path / 'erf.csv').open(newline='') as file:
        assert [row['side_99'] for row in csv.DictReader(file)] == ['21', '41', '21', '21']
