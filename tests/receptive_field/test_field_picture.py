import cv2
import numpy as np
import torch.nn as nn
from matplotlib.colors import to_rgb

from gmconv_mmdet.layers import GMConv2d
from gmconv_mmdet.receptive_field.analyze import analyze
from gmconv_mmdet.receptive_field.field_picture import COLOURS, field_figure, save_picture


def report():
    parts = [GMConv2d(3, 4, 7, 2, 3, init_sigma=0.5)] + [nn.Conv2d(4, 4, 3, 2, 1)] * 4
    return analyze(nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1)), (32, 32))


def test_one_row_a_layer_in_the_colour_of_its_status():
    result = report()
    axes = field_figure(result, 'title').axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == list(result.layers)
    assert [bar.get_facecolor()[:3] for bar in axes.patches] == [
        to_rgb(COLOURS[layer.status]) for layer in result.layers.values()]
    assert len({layer.status for layer in result.layers.values()}) == 4   # all of them occur


def test_picture_file(tmp_path):
    save_picture(report(), tmp_path / 'network.png', 'title')
    picture = cv2.imread(str(tmp_path / 'network.png'))
    assert picture is not None and len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
