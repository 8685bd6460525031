"""Measures of effective receptive fields against known answers."""
import math

import numpy as np
import pytest
import torch
import torch.nn as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.backbones import ResNet

from gmconv_mmdet import GMConv2d
from gmconv_mmdet.openmmlab.configured_network import FeatureExtractor
from gmconv_mmdet.receptive_field.analyze import analyze
from gmconv_mmdet.visualization.erf import (
    area_ratio,
    axis_variance,
    crop_around,
    log_scaled,
    mass_inside,
    second_moment_radius,
    unit_gradient,
)


def replknet_rectangle(data, thresh):
    """The rule in RepLKNet's words: squares of 3, 5, 7 ... pixels around (h // 2, w // 2), the
    first that holds more than ``thresh`` of the sum; None where none does."""
    h, w = data.shape
    for i in range(1, h // 2):
        inside = data[h // 2 - i:h // 2 + 1 + i, w // 2 - i:w // 2 + 1 + i]
        if inside.sum() / data.sum() > thresh:
            return (2 * i + 1) / h * (2 * i + 1) / w, 2 * i + 1
    return None


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 24), st.floats(0.01, 0.99), st.integers(0, 10**6), st.floats(1e-6, 1e6))
def test_area_ratio_is_replknets(size, t, seed, scale):
    erf_map = np.random.default_rng(seed).random((size, size))**4
    expected = replknet_rectangle(erf_map, t)
    if expected is not None:
        assert area_ratio(erf_map * scale, t) == pytest.approx(expected)
    else:
        assert area_ratio(erf_map * scale, t)[1] > 2 * (size // 2 - 1) + 1


def test_squares_by_hand():
    """A delta has the smallest square; a square may grow beyond the map."""
    delta = np.zeros((5, 8))
    delta[2, 4] = 7
    for t in (1e-9, 0.5, 1 - 1e-9):
        assert area_ratio(delta, t) == (pytest.approx(9 / 40), 3)
    corner = np.zeros((8, 8))
    corner[0, 0] = 1
    assert area_ratio(corner, 0.5) == (1.0, 9)
    assert area_ratio(np.ones((1, 1)), 0.5) == (1.0, 3)
    assert area_ratio(np.ones((3, 101)), 0.5) == (pytest.approx(51 / 101), 51)
    for t in (0, 1, -0.1, 20):
        with pytest.raises(ValueError, match=rf'20 % is 0.2.*got {t}'):
            area_ratio(np.ones((9, 9)), t)


@pytest.mark.parametrize('bad, message', [
    (np.ones(9), r'shape \(9,\)'), (np.zeros((9, 9)), 'all zero'), (-np.eye(9), 'negative'),
    (np.full((9, 9), np.nan), 'finite'), (np.full((9, 9), np.inf), 'finite')])
def test_maps_that_measure_nothing(bad, message):
    for measure in (lambda m: area_ratio(m, 0.5), log_scaled, axis_variance, second_moment_radius,
                    lambda m: mass_inside(m, (0, 0, 1, 1))):
        with pytest.raises(ValueError, match=message):
            measure(bad)


@pytest.mark.parametrize('n', [1, 6])
@pytest.mark.parametrize('sigma', [0.4, 5.0])
@pytest.mark.parametrize('dynamic', [False, True])
def test_stack_of_gaussian_masks(n, sigma, dynamic):
    layers = [GMConv2d(1, 1, 7, padding=3, bias=False, init_sigma=sigma, dynamic=dynamic).double()
              for _ in range(n)]
    for layer in layers:
        nn.init.ones_(layer.weight)
    x = range(-3, 4)
    mask = [[math.exp(-(a * a + b * b) / (2 * sigma**2)) for a in x] for b in x]
    total = sum(map(sum, mask))
    expected = n * sum(m * a * a for row in mask for m, a in zip(row, x)) / total
    image = torch.ones(1, 1, 45, 45, dtype=torch.double, requires_grad=True)  # no ReLU closes
    field = unit_gradient(nn.Sequential(*layers)(image), image, (22, 22))
    assert axis_variance(field) == pytest.approx((expected, expected), rel=1e-6)


@pytest.mark.parametrize('style, sides', [('pytorch', (35, 91, 267, 427)),
                                          ('caffe', (35, 99, 291, 483))])
def test_support_is_the_theoretical_field(style, sides):
    """With positive weights nothing cancels. Max pooling passes one pixel of nine: an image that
    grows towards its border makes it the outermost one."""
    backbone = ResNet(50, base_channels=2, style=style).double()
    for parameter in backbone.parameters():
        parameter.data = torch.full_like(parameter, 0.5)
    backbone.eval()
    backbone.requires_grad_(False)
    at = (torch.arange(512) - 256).abs().double()
    image = (at[:, None] + at).expand(1, 3, -1, -1).clone().requires_grad_()
    theory = analyze(FeatureExtractor(ResNet(50, base_channels=2, style=style), []), (512, 512))
    for feature, side, output in zip(backbone(image), sides, theory.outputs):
        unit = feature.shape[2] // 2
        field = unit_gradient(feature, image, (unit, unit))
        rows, columns = field.nonzero()
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (side, side) == output.r_max
        assert rows.min() + rows.max() == columns.min() + columns.max() == 2 * 256


def test_gradient_by_hand():
    """Negative units are silent, negative contributions are clamped, colours add up."""
    conv = nn.Conv2d(2, 2, 1, bias=False)
    conv.weight.data = torch.tensor([[[[3.]], [[-2.]]], [[[-5.]], [[-7.]]]])
    image = torch.ones(1, 2, 3, 4, requires_grad=True)
    feature = conv(image)  # 1 and -12 in every unit
    field = unit_gradient(feature, image, (1, 2))
    assert field.shape == (3, 4) and field[1, 2] == 3 and field.sum() == 3
    assert unit_gradient(feature, image, (0, 0))[0, 0] == 3  # the graph is still there
    assert unit_gradient(-feature.relu(), image, (0, 0)).sum() == 0


def test_boxes_and_crops():
    erf_map = np.zeros((10, 20))
    erf_map[2, 3], erf_map[7, 15] = 1, 3
    for box, share in [((3, 2, 4, 3), 0.25), ((3.4, 2.4, 3.6, 2.6), 0.25), ((3.6, 2, 5, 3), 0),
                       ((-5, -5, 100, 100), 1), ((12, 5, 12, 9), 0)]:
        assert mass_inside(erf_map, box) == share
    erf_map = np.arange(1., 43.).reshape(6, 7)
    for centre in [(0, 0), (5, 6), (2, 3)]:
        cropped = crop_around(erf_map, centre, 5)
        assert cropped.shape == (5, 5) and cropped[2, 2] == erf_map[centre]
    assert crop_around(erf_map, (0, 0), 5)[:2].sum() == 0
    offset = crop_around(erf_map, (2, 1), 21)
    assert offset.sum() == erf_map.sum()
    assert second_moment_radius(offset) == pytest.approx(second_moment_radius(erf_map, (2, 1)))
