"""What is said of masks, against masks and spreads computed by hand."""
import math

import pytest
import torch
import torch.nn as nn

from gmconv_mmdet import GMConv2d, GMResNet
from gmconv_mmdet.layers.find_layers import gm_layers
from gmconv_mmdet.visualization.masks import (
    describe_masks,
    predicted_sigmas,
    shown_stage,
    stage_averages,
)

from ..oracles import loop_extent, loop_mask


@pytest.mark.parametrize('kernel, sigma', [((3, 3), 5.), ((1, 7), -0.4), ((4, 5), 1.), ((7, 2), -9.)])
def test_static_layer(kernel, sigma):
    layer = GMConv2d(2, 3, kernel, init_sigma=abs(sigma))
    layer.sigma.data.fill_(sigma)
    described, = describe_masks(nn.Sequential(layer))
    expected = loop_mask(*kernel, sigma, sigma).tolist()
    assert described.kind == 'static' and described.name == '0'
    assert described.sigma == pytest.approx((abs(sigma), ) * 2, rel=1e-6)
    assert torch.allclose(described.mask, torch.tensor(expected).double(), atol=1e-6)
    assert described.extent == pytest.approx(loop_extent(expected), abs=1e-4)
    weight = layer.weight.detach().abs().mean((0, 1)).double().tolist()
    weighted = [[m * w for m, w in zip(*rows)] for rows in zip(expected, weight)]
    assert described.weighted_extent == pytest.approx(
        [min(size, k) for size, k in zip(loop_extent(weighted), kernel)], abs=1e-3)


def test_layers_without_a_mask_are_left_out():
    folded = GMConv2d(2, 2, 3)
    folded.switch_to_deploy()
    net = nn.Sequential(GMConv2d(2, 2, 1), nn.Conv2d(2, 2, 3), folded, GMConv2d(2, 2, 3))
    assert list(gm_layers(net)) == ['3']
    assert describe_masks(nn.Conv2d(1, 1, 3)) == []


@pytest.mark.parametrize('pattern', ['sigma', 'sigma_ratio'])
def test_predictions_over_images_of_several_sizes(pattern):
    torch.manual_seed(0)
    net = nn.Sequential(GMConv2d(3, 4, (5, 7), dynamic=True, sigma_pattern=pattern),
                        GMConv2d(4, 4, 3, dynamic=True, sigma_pattern=pattern))
    for layer in net:
        nn.init.normal_(layer.sigma_predictor.w1)
    images = [torch.randn(1, 3, 12 + i, 9) * 3 for i in range(5)]
    found = predicted_sigmas(net, images)
    assert list(found) == ['0', '1'] and not net[0].sigma_predictor._forward_hooks
    for name, inputs in (('0', images), ('1', [net[0](image) for image in images])):
        rows = [net[int(name)].sigma_predictor(x)[0].abs().tolist() for x in inputs]
        assert found[name].tolist() == [pytest.approx([row[0], row[-1]]) for row in rows]
    described = describe_masks(net, found)[0]
    x, y = found['0'].double().mean(0).tolist()
    assert described.images == 5 and described.sigma == pytest.approx((x, y))
    assert described.sigma_std == pytest.approx(found['0'].double().numpy().std(0))
    assert torch.allclose(described.mask, loop_mask(5, 7, x, y))


def test_stages_and_averages_of_a_resnet():
    net = GMResNet(18, base_channels=4)
    for i, layer in enumerate(layer for layer in gm_layers(net).values() if not layer.dynamic):
        layer.sigma.data.fill_(1 + i)
    masks = describe_masks(net)
    assert [mask.stage for mask in masks] == [
        'stem', *(f'L{i}' for i in (1, 2, 3, 4) for _ in range(4))]
    averages = stage_averages(masks)
    assert [a.name for a in averages] == [f'average of L{i}' for i in (1, 2, 3, 4)]
    expected = torch.stack([loop_mask(3, 3, s, s) for s in (5, 6, 7, 8)]).mean(0)
    assert torch.allclose(averages[1].mask, expected) and averages[1].sigma == (6.5, 6.5)
    assert averages[1].extent == pytest.approx(loop_extent(expected.tolist()))


def test_stage_names():
    for name, stage in {
            'backbone.conv1': 'stem', 'backbone.layer3.11.conv2': 'L3', 'layer1.0.conv1': 'L1',
            'backbone.stages.2.4.depthwise_conv': 'stages 2', 'backbone.features.3': 'features',
            'neck.fpn_convs.0.conv': 'neck', 'rpn_head.rpn_conv': 'rpn_head'}.items():
        assert shown_stage(name) == stage


def test_not_a_number_is_reported_as_such():
    layer = GMConv2d(1, 1, 3)
    layer.sigma.data.fill_(float('nan'))
    zero = GMConv2d(1, 1, 3)
    nn.init.zeros_(zero.weight)
    lost, zero = describe_masks(nn.Sequential(layer, zero))
    assert all(map(math.isnan, (*lost.sigma, *lost.extent, *zero.weighted_extent)))
    assert zero.extent[0] == pytest.approx(2.9911, abs=1e-4)
