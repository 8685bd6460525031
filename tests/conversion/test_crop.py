"""Cropped kernels: what is cut, and that outputs never change by more than the bound."""
import random

import pytest
import torch
import torch.nn as nn

from gmconv_mmdet import GMConv2d, RefConv2d, fold_gmconv
from gmconv_mmdet.conversion.crop import crop_of, crop_plan


def layer(kernel, sigma, **options):
    options.setdefault('padding', tuple(k // 2 for k in kernel))
    conv = GMConv2d(options.pop('cin', 4), options.pop('cout', 4), kernel, **options).double()
    with torch.no_grad():
        conv.sigma.fill_(sigma)
    return conv


@pytest.mark.parametrize('kernel, sigma, tolerance, expected', [
    ((7, 7), 0.7, 1e-3, (5, 5)),   # masks at a distance of 2 and 3: 0.017 and 1e-4
    ((7, 7), 0.7, 0.02, (3, 3)),
    ((7, 7), 0.2, 1e-3, (1, 1)),
    ((3, 3), 0.25, 1e-3, (1, 1)),  # exp(-8) = 3.4e-4
    ((3, 3), 0.25, 1e-4, None),
    ((3, 3), 5, 1e-3, None),
    ((3, 7), 0.7, 1e-3, (3, 5)),
    ((4, 4), 0.3, 1e-3, (2, 2)),
    ((7, 7), -0.7, 1e-3, (5, 5)),  # the sign of sigma means nothing
])
def test_what_is_cut(kernel, sigma, tolerance, expected):
    conv = layer(kernel, sigma)
    crop = crop_of(conv, tolerance)
    assert (crop and crop.cropped_size) == expected
    folded = fold_gmconv(conv, crop=tolerance)
    assert type(folded) is nn.Conv2d and folded.kernel_size == (expected or kernel)
    assert folded.weight.shape[2:] == folded.kernel_size
    x = torch.randn(2, 4, 9, 10).double()
    assert folded(x).shape == conv(x).shape


@pytest.mark.parametrize('padding, expected', [(0, None), (1, (5, 5)), ((3, 0), (3, 7)),
                                               ('same', (3, 3)), ('valid', None)])
def test_no_more_than_the_padding(padding, expected):
    crop = crop_of(layer((7, 7), 0.4, padding=padding), 0.04)
    assert (crop and crop.cropped_size) == expected


def test_the_bound_is_reached():
    conv = layer((5, 5), 0.5)
    crop = crop_of(conv, 1e-2)
    difference = conv.plain_weight().detach().clone()
    difference[..., 1:4, 1:4] = 0
    channel = difference.abs().sum((1, 2, 3)).argmax()
    x = difference[channel:channel + 1].sign()
    change = (conv(x) - fold_gmconv(conv, crop=1e-2)(x)).abs().max().item()
    assert change == pytest.approx(crop.bound, rel=1e-12)
    assert 0 < crop.relative_bound < 1e-2  # the tolerance bounds it where weights are alike


def never_exceeded(seeds):
    cut = 0
    for seed in seeds:
        draw = random.Random(seed)
        torch.manual_seed(seed)
        kernel = draw.randint(1, 7), draw.randint(2, 7)
        groups = draw.choice([1, 1, 2])
        dilation, mode = draw.randint(1, 2), draw.choice(['zeros', 'zeros', 'reflect', 'circular'])
        padding = draw.choice(['same', tuple(draw.randint(0, k // 2) * dilation for k in kernel)])
        conv = layer(kernel, draw.uniform(0.1, 1.2), cin=2 * groups, cout=2 * groups, groups=groups,
                     dilation=dilation, padding=padding, padding_mode=mode, bias=draw.random() < 0.5,
                     stride=1 if padding == 'same' else draw.randint(1, 2))
        tolerance = 10 ** draw.uniform(-6, -0.5)
        x = torch.randn(1, conv.in_channels, 13, 14).double() * 10 ** draw.uniform(-2, 2)
        if draw.random() < 0.5:
            x = x.sign()
        folded, crop = fold_gmconv(conv, crop=tolerance), crop_of(conv, tolerance)
        exact = conv(x)
        change = (folded(x) - exact).abs().max().item()
        bound = crop.bound * x.abs().max().item() if crop else 0
        assert change <= bound + 1e-12 * exact.abs().max().item(), seed
        if crop:
            cut += 1
            assert crop.bound <= tolerance * conv.weight.abs().sum((1, 2, 3)).max().item(), seed
    return cut


@pytest.mark.slow
def test_the_bound_is_never_exceeded():
    assert never_exceeded(range(300)) > 100


@pytest.mark.nightly
def test_the_bound_is_never_exceeded_in_ten_thousand_cases():
    assert never_exceeded(range(10_000)) > 3000


def test_a_network():
    torch.manual_seed(0)
    net = nn.Sequential(GMConv2d(3, 8, 7, padding=3, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
                        GMConv2d(8, 8, 3, padding=1), RefConv2d(8, 8, 3, padding=1, init='identity'),
                        GMConv2d(8, 8, 3, padding=1, dynamic=True), nn.Conv2d(8, 4, 3)).eval()
    net[4].load_basis(torch.randn(8, 8, 3, 3))
    with torch.no_grad():
        net[0].sigma.fill_(0.6)
    plan = crop_plan(net, 1e-3)
    assert list(plan) == ['0'] and plan['0'].cropped_size == (5, 5)
    assert str(plan['0']).startswith('7x7 to 5x5, outputs change by at most')
    x = torch.randn(2, 3, 32, 32)
    folded, exact = fold_gmconv(net, crop=1e-3), fold_gmconv(net)
    assert [m.kernel_size for m in folded if isinstance(m, nn.Conv2d)][:2] == [(5, 5), (3, 3)]
    assert isinstance(folded[5], GMConv2d)
    torch.testing.assert_close(folded(x), net(x), atol=1e-3, rtol=1e-2)
    assert torch.equal(exact(x), net(x)) and exact[0].kernel_size == (7, 7)
    kept = fold_gmconv(net, keep=['0'], crop=1e-3)
    assert isinstance(kept[0], GMConv2d) and net[0].kernel_size == (7, 7)
    scripted = torch.jit.trace(folded[:3], x)
    assert torch.equal(scripted(x), folded[:3](x))


@pytest.mark.parametrize('crop', [0, 1, -0.1, 2, True, '1e-3', float('nan')])
def test_a_tolerance_out_of_range(crop):
    with pytest.raises(ValueError, match='crop must be None or a number above 0 and below 1'):
        fold_gmconv(nn.Sequential(nn.Conv2d(1, 1, 3)), crop=crop)
