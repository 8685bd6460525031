import csv
import io

import numpy as np
import pytest
import torch.nn as nn

from gmconv_mmdet.receptive_field.analyze import analyze
from gmconv_mmdet.receptive_field.field_table import (
    COLUMNS,
    align,
    layer_table,
    level_table,
    output_table,
    pair,
    summary,
    write_csv,
)
from gmconv_mmdet.receptive_field.fpn_assignment import boxes_beyond_field

INF = float('inf')


@pytest.fixture(scope='module')
def report():
    return analyze(nn.Sequential(nn.Conv2d(3, 4, (3, 7), 2), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3),
                                 nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1)), (16, 40))


@pytest.mark.parametrize('values, text', [
    ((3, 3), '3'), ((3, 5), '3 x 5'), ((INF, INF), 'inf'), (None, '-'), ((2.5, 2.5), '2.5'),
    ((None, None), '-'), ((10.0, 10.0), '10')])
def test_pair(values, text):
    assert pair(values) == text


def test_columns_are_aligned():
    assert align([('a', 1), ('long', 22)], ('x', 'y')).splitlines() == [
        'x     y', '----  --', 'a     1', 'long  22']


def test_table_names_every_layer_and_says_what_masks_do(report):
    text = layer_table(report)
    assert all(f'\n{name} ' in text for name in report.layers)
    assert 'A mask never changes the theoretical field' in text
    assert summary(report) in text and 'input 16 x 40 px' in text
    assert output_table(report.outputs).splitlines()[-1].split()[:5] == ['0', '-', 'inf', 'inf',
                                                                        'inf']


def test_levels(report):
    field = report.modules['2']
    text = level_table(boxes_beyond_field([field], [field], np.array([[9., 9.], [900., 9.]])))
    assert '1 (50.0 %)' in text and 'never changes the theoretical field' in text
    assert '- ' in level_table(boxes_beyond_field([field, field], [], np.array([[9., 9.]])))


def test_csv(report):
    file = io.StringIO()
    write_csv(report, file)
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert tuple(rows[0]) == COLUMNS
    assert [row['name'] for row in rows] == list(report.layers)
    assert rows[0]['r_max'] == '3 x 7' and rows[-1]['status'] == 'global'
