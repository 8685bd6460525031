import numpy as np
import pytest
import torch.nn as nn
from matplotlib.colors import to_rgb

from gmconv_mmdet.layers import GMConv2d
from gmconv_mmdet.receptive_field.analyze import analyze
from gmconv_mmdet.receptive_field.field_picture import COLOURS, field_figure
from gmconv_mmdet.receptive_field.field_table import (
    align,
    layer_table,
    level_table,
    output_table,
    pair,
    summary,
)
from gmconv_mmdet.receptive_field.fpn_assignment import boxes_beyond_field

INF = float('inf')


@pytest.fixture(scope='module')
def report():
    """Of a network with layers of every status."""
    parts = [GMConv2d(3, 4, (3, 7), 2, 3, init_sigma=0.5), nn.MaxPool2d(2)]
    parts += [nn.Conv2d(4, 4, 3, 2, 1) for _ in range(4)]
    return analyze(nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1)), (32, 40))


@pytest.mark.parametrize('values, text', [
    ((3, 3), '3'), ((3, 5), '3 x 5'), ((INF, INF), 'inf'), (None, '-'), ((2.5, 2.5), '2.5'),
    ((None, None), '-'), ((10.0, 10.0), '10')])
def test_pair(values, text):
    assert pair(values) == text


def test_tables(report):
    assert align([('a', 1), ('long', 22)], ('x', 'y')).splitlines() == [
        'x     y', '----  --', 'a     1', 'long  22']
    text = layer_table(report)
    assert all(f'\n{name} ' in text for name in report.layers)
    assert 'A mask never changes the theoretical field' in text
    assert summary(report) in text and 'input 32 x 40 px' in text
    assert output_table(report.outputs).splitlines()[-1].split()[:5] == ['0', '-', 'inf', 'inf',
                                                                        'inf']
    field = report.modules['2']
    text = level_table(boxes_beyond_field([field], [field], np.array([[9., 9.], [900., 9.]])))
    assert '1 (50.0 %)' in text and 'never changes the theoretical field' in text
    assert '- ' in level_table(boxes_beyond_field([field, field], [], np.array([[9., 9.]])))


def test_picture_has_a_row_a_layer_in_the_colour_of_its_status(report):
    axes = field_figure(report, 'title').axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == list(report.layers)
    assert [bar.get_facecolor()[:3] for bar in axes.patches] == [
        to_rgb(COLOURS[layer.status]) for layer in report.layers.values()]
    assert len({layer.status for layer in report.layers.values()}) == 4   # all of them occur
