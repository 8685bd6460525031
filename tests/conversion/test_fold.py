"""Folding against the unfolded layer, over convolution arguments, networks and other people's
tools."""
import copy
import io

import pytest
import torch
import torch.nn as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.cnn import fuse_conv_bn
from mmcv.cnn.bricks.conv_module import ConvModule
from mmdet.models.backbones import ResNet
from timm.utils.model import reparameterize_model

from gmconv_mmdet import GMConv2d, GMResNet, fold_gmconv

from ..networks import difference, images, trained

NAMES = ('weight', 'bias')
HAS_DYNAMIC_DIMS = hasattr(torch, 'export') and hasattr(torch.export, 'Dim') and hasattr(
    torch.export.Dim, 'DYNAMIC')


def kinds(model):
    return {type(module) for module in model.modules() if isinstance(module, nn.Conv2d)}


@st.composite
def layers(draw):
    """A static GMConv with any arguments that nn.Conv2d takes, and an input for it."""
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    groups = draw(st.integers(1, 3))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.one_of(st.sampled_from(['valid', 'same']),
                             st.tuples(st.integers(0, 3), st.integers(0, 3))))
    conv = GMConv2d(
        groups * draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 2)),
        kernel,
        stride=1 if padding == 'same' else draw(st.integers(1, 3)),
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(['zeros', 'reflect', 'replicate', 'circular'])),
        init_sigma=draw(st.floats(0.05, 20)),
        # torch 1.13 pads no bf16.
        dtype=draw(st.sampled_from([torch.float32, torch.float64, *[torch.bfloat16] * hasattr(
            torch, 'compile')])))
    for parameter in conv.parameters():
        parameter.requires_grad_(draw(st.booleans()))
    if draw(st.booleans()):
        conv.to(memory_format=torch.channels_last)
    conv.train(draw(st.booleans()))
    # torch 1.13 can't convolve every empty batch.
    x = torch.randn(draw(st.integers(not hasattr(torch, 'compile'), 2)), conv.in_channels, *draw(
        st.tuples(st.integers(9, 12), st.integers(9, 12))), dtype=conv.weight.dtype)
    return conv, x


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(layers())
def test_every_static_layer_folds_exactly(case):
    conv, x = case
    before = {name: p.clone() for name, p in conv.named_parameters()}
    plain = fold_gmconv(conv)
    assert type(plain) is nn.Conv2d
    assert torch.equal(plain(x), conv(x))
    assert all(torch.equal(p, before[name]) for name, p in conv.named_parameters())
    for name in ('in_channels', 'out_channels', 'kernel_size', 'stride', 'padding', 'dilation',
                 'groups', 'padding_mode', 'training'):
        assert getattr(plain, name) == getattr(conv, name), name
    for name in NAMES:
        ours, theirs = getattr(plain, name), getattr(conv, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours is not theirs and type(ours) is nn.Parameter
            assert ((ours.dtype, ours.device, ours.stride(), ours.requires_grad)
                    == (theirs.dtype, theirs.device, theirs.stride(), theirs.requires_grad)), name
    assert set(plain.state_dict()) == set(conv.state_dict()) - {'sigma'}
    again = fold_gmconv(plain)
    assert torch.equal(again.weight, plain.weight)


@pytest.mark.parametrize('stem', ['dynamic', 'static'])
@pytest.mark.parametrize('depth', [18, 50])
def test_whole_backbone(depth, stem):
    model = trained(GMResNet(depth, base_channels=8, gm_stem=stem, frozen_stages=1))
    state = copy.deepcopy(model.state_dict())
    folded = fold_gmconv(model)
    x = images()
    assert difference(folded(x), model(x)) < 1e-6
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    dynamic = [module for module in folded.modules() if isinstance(module, GMConv2d)]
    assert dynamic == ([folded.conv1] if stem == 'dynamic' else [])
    assert 'static' not in folded.placement().values()
    if stem == 'static':
        theirs = ResNet(depth, base_channels=8)
        theirs.load_state_dict(folded.state_dict())  # strict
        theirs.eval()
        assert all(torch.equal(a, b) for a, b in zip(theirs(x), folded(x)))
    assert not folded.training and not any(p.requires_grad for p in folded.layer1.parameters())
    assert all(p.requires_grad for p in folded.layer4.parameters())


def test_in_place_keep_and_repetition():
    model = trained(GMResNet(18, base_channels=8, gm_stem='static'))
    x = images()
    expected = model(x)
    kept = fold_gmconv(model, keep={'conv1'})
    assert kept.placement()['conv1'] == 'static'
    assert difference(kept(x), expected) < 1e-6
    assert fold_gmconv(model, inplace=True) is model
    first = copy.deepcopy(model.state_dict())
    assert fold_gmconv(model, inplace=True) is model
    assert all(torch.equal(value, first[name]) for name, value in model.state_dict().items())
    assert GMConv2d not in kinds(model)
    assert difference(model(x), expected) < 1e-6


def test_shared_layers_and_shared_weights():
    conv = GMConv2d(3, 3, 3, padding=1, init_sigma=1.5)
    other = GMConv2d(3, 3, 3, padding=1, init_sigma=0.6)
    other.weight = conv.weight  # one weight under two masks
    model = nn.Sequential(conv, other, conv)
    x = torch.randn(2, 3, 6, 6)
    folded = fold_gmconv(model)
    assert folded[0] is folded[2] and folded[0].weight is not folded[1].weight
    torch.testing.assert_close(folded(x), model(x))
    deployed = reparameterize_model(model)
    torch.testing.assert_close(deployed(x), model(x))


@pytest.mark.parametrize('stem', ['dynamic', 'static'])
def test_fuse_conv_bn_in_both_orders(stem):
    model = trained(GMResNet(50, base_channels=8, gm_stem=stem))
    x = images()
    expected = model(x)
    fold_first = fuse_conv_bn(fold_gmconv(model))
    fuse_first = fold_gmconv(fuse_conv_bn(copy.deepcopy(model)))
    for fused in (fold_first, fuse_first):
        assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
        assert difference(fused(x), expected) < 1e-5
    assert difference(fold_first(x), fuse_first(x)) < 1e-5
    assert (GMConv2d in kinds(fuse_first)) == (stem == 'dynamic')


@pytest.mark.parametrize('stem', ['dynamic', 'static'])
def test_timm_finds_the_layers(stem):
    model = trained(GMResNet(18, base_channels=8, gm_stem=stem))
    x = images()
    deployed = reparameterize_model(model)
    assert 'static' not in deployed.placement().values()
    assert 'static' in model.placement().values()
    assert difference(deployed(x), model(x)) < 1e-6


@pytest.mark.skipif(not hasattr(ConvModule, 'turn_on_efficient_conv_bn_eval'),
                    reason='efficient_conv_bn_eval is new in mmcv 2.1')
@pytest.mark.parametrize('gm', [dict(), dict(dynamic=True)])
def test_efficient_conv_bn_eval(gm):
    """mmcv's ConvModule calls ``_conv_forward`` with a weight of its own: the mask must not be
    lost."""
    conv = GMConv2d(3, 4, 3, **gm)
    module = trained(ConvModule(3, 4, 3, bias=False, norm_cfg=dict(type='BN'),
                                conv_cfg=dict(type='GMConv', **gm)))
    assert type(module.conv) is type(conv)
    x = images()
    expected = module(x)
    module.turn_on_efficient_conv_bn_eval(True)
    torch.testing.assert_close(module(x), expected)
    if not gm:
        torch.testing.assert_close(fold_gmconv(module)(x), expected)


@pytest.fixture(scope='module')
def folded():
    return fold_gmconv(trained(GMResNet(18, base_channels=8, gm_stem='static')))


def test_trace_of_the_folded_model(folded):
    other = images(1, 80, 64)
    with torch.no_grad():
        assert difference(torch.jit.trace(folded, images())(other), folded(other)) < 1e-6


@pytest.mark.slow
@pytest.mark.skipif(not HAS_DYNAMIC_DIMS, reason='Dim.DYNAMIC is new in torch 2.6')
def test_export_of_the_folded_model(folded):
    x, other = images(), images(1, 80, 64)
    with torch.no_grad():
        dims = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC,
                3: torch.export.Dim.DYNAMIC}
        program = torch.export.export(folded, (x, ), dynamic_shapes=(dims, ))
        file = io.BytesIO()
        torch.export.save(program, file)
        file.seek(0)
        assert difference(torch.export.load(file).module()(other), folded(other)) < 1e-6
