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


@pytest.mark.parametrize('t', [1e-9, 0.2, 0.5, 0.99, 1 - 1e-9])
@pytest.mark.parametrize('shape', [(1024, 1024), (3, 3), (5, 8)])
def test_centre_delta(t, shape):
    delta = np.zeros(shape)
    delta[shape[0] // 2, shape[1] // 2] = 7
    ratio, side = area_ratio(delta, t)
    assert side == 3 and ratio == pytest.approx(9 / (shape[0] * shape[1]))


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 24), st.floats(0.01, 0.99), st.integers(0, 10**6), st.floats(1e-6, 1e6))
def test_area_ratio_is_replknets(size, t, seed, scale):
    erf_map = np.random.default_rng(seed).random((size, size))**4
    expected = replknet_rectangle(erf_map, t)
    if expected is not None:
        assert area_ratio(erf_map * scale, t) == pytest.approx(expected)
    else:
        assert area_ratio(erf_map * scale, t)[1] > 2 * (size // 2 - 1) + 1


def test_mass_that_no_centred_square_inside_the_map_reaches():
    erf_map = np.zeros((8, 8))
    erf_map[0, 0] = 1
    assert area_ratio(erf_map, 0.5) == (1.0, 9)
    assert area_ratio(np.ones((1, 1)), 0.5) == (1.0, 3)
    wide = np.ones((3, 101))
    assert area_ratio(wide, 0.5) == (pytest.approx(51 / 101), 51)


@pytest.mark.parametrize('t', [0, 1, -0.1, 20, 99])
def test_shares_are_fractions(t):
    with pytest.raises(ValueError, match=rf'20 % is 0.2.*got {t}'):
        area_ratio(np.ones((9, 9)), t)


@pytest.mark.parametrize('bad, message', [
    (np.ones(9), r'shape \(9,\)'), (np.zeros((9, 9)), 'all zero'), (-np.eye(9), 'negative'),
    (np.full((9, 9), np.nan), 'finite'), (np.full((9, 9), np.inf), 'finite')])
@pytest.mark.parametrize('measure', [
    lambda m: area_ratio(m, 0.5), log_scaled, axis_variance, second_moment_radius,
    lambda m: mass_inside(m, (0, 0, 1, 1))])
def test_maps_that_measure_nothing(measure, bad, message):
    with pytest.raises(ValueError, match=message):
        measure(bad)


def central_field(network, size, channels=1):
    """Field of the central unit for a positive image, at which no ReLU closes."""
    image = torch.ones(1, channels, size, size, dtype=torch.double, requires_grad=True)
    feature = network(image)
    return unit_gradient(feature, image, (feature.shape[2] // 2, feature.shape[3] // 2))


@pytest.mark.parametrize('n', [1, 3, 6])
@pytest.mark.parametrize('sigma', [0.4, 1.0, 5.0])
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
    assert axis_variance(central_field(nn.Sequential(*layers), 45)) == pytest.approx(
        (expected, expected), rel=1e-6)


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


def test_mass_in_a_box():
    erf_map = np.zeros((10, 20))
    erf_map[2, 3], erf_map[7, 15] = 1, 3
    assert mass_inside(erf_map, (3, 2, 4, 3)) == 0.25
    assert mass_inside(erf_map, (3.4, 2.4, 3.6, 2.6)) == 0.25
    assert mass_inside(erf_map, (3.6, 2, 5, 3)) == 0  # its centre is at 3.5
    assert mass_inside(erf_map, (-5, -5, 100, 100)) == 1
    assert mass_inside(erf_map, (12, 5, 12, 9)) == 0


def test_crop_keeps_the_centre():
    erf_map = np.arange(1., 43.).reshape(6, 7)
    for centre in [(0, 0), (5, 6), (2, 3)]:
        cropped = crop_around(erf_map, centre, 5)
        assert cropped.shape == (5, 5) and cropped[2, 2] == erf_map[centre]
    assert crop_around(erf_map, (0, 0), 5)[:2].sum() == 0
    assert crop_around(erf_map, (3, 3), 21).sum() == erf_map.sum()
    offset = crop_around(erf_map, (2, 1), 21)
    assert second_moment_radius(offset) == pytest.approx(second_moment_radius(erf_map, (2, 1)))
