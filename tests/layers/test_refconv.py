"""RefConv2d against a naive float64 loop over kernel and image, and the rules about its basis."""
import copy
import pickle
from inspect import signature

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.cnn import ConvModule, build_conv_layer, fuse_conv_bn
from mmengine.model import ExponentialMovingAverage, initialize

from gmconv_mmdet import RefConv2d, fold_gmconv, refocus

from ..networks import skip_without_autocast
from ..oracles import loop_conv, loop_refocus


def loaded(layer):
    layer.load_basis(torch.randn_like(layer.weight))
    return layer


def double(*args, **kwargs):
    return loaded(RefConv2d(*args, dtype=torch.float64, **kwargs))


SHAPES = {
    'dense': ((3, 4, 3), dict(padding=1), 3),
    'dense, no bias, 5x5 map': ((2, 3, 5), dict(bias=False, padding=2), 5),
    'dense, wide kernel, stride': ((2, 3, (3, 5)), dict(stride=(2, 1), padding=(1, 2)), 3),
    'dense, even kernel, dilation': ((2, 3, 4), dict(dilation=2, padding=3), 3),
    'dense, 1x5 kernel, 1x3 map': ((3, 2, (1, 5)), dict(padding=(0, 2)), (1, 3)),
    'grouped': ((4, 6, 3), dict(groups=2, padding=1), 3),
    'grouped, dilation, 5x3 map': ((6, 3, (5, 4)), dict(groups=3, dilation=(1, 2), padding=2,
                                                        bias=False), (5, 3)),
    'depthwise': ((4, 4, 3), dict(groups=4, padding=1), 3),
    'depthwise, multiplier, stride, dilation': ((3, 6, (4, 3)), dict(groups=3, dilation=(1, 2),
                                                                     stride=2, padding=2), 3),
    '1x1 map': ((3, 4, 2), dict(padding=1), 1),
}


@pytest.mark.parametrize('name', SHAPES)
def test_equals_oracle(name):
    args, kwargs, size = SHAPES[name]
    torch.manual_seed(0)
    conv = double(*args, map_kernel_size=size, **kwargs)
    x = torch.randn(2, args[0], 7, 8, dtype=torch.float64)
    kernel = loop_refocus(conv.weight, conv.convmap.weight.detach())
    assert (conv.plain_weight() - kernel).abs().max() < 1e-12
    assert (kernel - conv.weight).abs().max() > 0.1
    assert (conv(x) - loop_conv(conv, x, kernel)).abs().max() < 1e-9
    assert torch.equal(conv(x[0]), conv(x[:1])[0])


@st.composite
def convolutions(draw):
    groups = draw(st.integers(1, 3))
    size = draw(st.tuples(*[st.sampled_from([1, 3])] * 2))
    kernel = tuple(draw(st.integers(side, 5)) for side in size)
    return dict(in_channels=groups * draw(st.integers(1, 2)),
                out_channels=groups * draw(st.integers(1, 2)), kernel_size=kernel, groups=groups,
                map_kernel_size=size, bias=draw(st.booleans()))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(convolutions())
def test_parameters_kernel_and_fold_of_any_layer(kwargs):
    conv = double(**kwargs)
    plain_kwargs = {key: value for key, value in kwargs.items() if key != 'map_kernel_size'}
    plain = nn.Conv2d(**plain_kwargs, dtype=torch.float64)
    x = torch.randn(1, conv.in_channels, 7, 7, dtype=torch.float64)
    if conv.kernel_size == (1, 1):
        assert conv.convmap is None and isinstance(conv.weight, nn.Parameter)
    else:
        assert conv.convmap.weight.numel() == (
            conv.in_channels * conv.out_channels * kwargs['map_kernel_size'][0]
            * kwargs['map_kernel_size'][1])
        assert {name for name, _ in conv.named_parameters()} == (
            {'convmap.weight'} | ({'bias'} if kwargs['bias'] else set()))
        assert set(conv.state_dict()) == set(plain.state_dict()) | {'convmap.weight'}
        assert torch.allclose(conv.plain_weight(), loop_refocus(
            conv.weight, conv.convmap.weight.detach()), rtol=1e-11, atol=1e-12)
    folded = fold_gmconv(conv)
    assert type(folded) is nn.Conv2d and torch.equal(folded(x), conv(x))
    assert all(p.requires_grad for p in folded.parameters())
    plain.load_state_dict(folded.state_dict())
    assert torch.equal(plain(x), conv(x))
    deployed = copy.deepcopy(conv)
    for _ in range(2):  # safe to repeat
        deployed.switch_to_deploy()
        assert torch.equal(deployed(x), conv(x))
    assert set(deployed.state_dict()) == set(plain.state_dict())


@pytest.mark.parametrize('groups', [1, 2, 4])
def test_gradcheck(groups):
    torch.manual_seed(1)
    conv = double(4, 4, (3, 4), groups=groups, stride=2, padding=1)
    assert not conv.weight.requires_grad
    x = torch.randn(1, 4, 4, 5, dtype=torch.float64, requires_grad=True)
    parameters = tuple(conv.parameters())
    assert len(parameters) == 2
    assert torch.autograd.gradcheck(lambda x, *_: conv(x), (x, *parameters))


def test_inits():
    torch.manual_seed(0)
    paper = RefConv2d(3, 4, 3)
    torch.manual_seed(0)
    basis = nn.Conv2d(3, 4, 3)
    drawn = nn.Conv2d(12, 12, 3, groups=12, bias=False)
    assert torch.equal(paper.convmap.weight, drawn.weight)  # as nn.Conv2d draws it
    assert torch.equal(paper.weight, basis.weight)
    identity = RefConv2d(3, 4, 3, init='identity')
    assert torch.equal(identity.plain_weight(), identity.weight)
    assert not torch.equal(paper.plain_weight(), paper.weight)
    loaded(identity)(torch.randn(1, 3, 5, 5)).square().sum().backward()
    assert identity.convmap.weight.grad.any()  # zeros are a start, not a trap


def step(layer):
    layer.train()(torch.randn(1, layer.in_channels, 6, 6)).sum().backward()


def test_unloaded_basis_is_an_error_at_the_first_training_step():
    conv = RefConv2d(3, 4, 3)
    with pytest.raises(RuntimeError, match='3 -> 4 channels, kernel 3x3.* never loaded: random'):
        step(conv)
    nn.init.zeros_(conv.weight)
    with pytest.raises(RuntimeError, match='is all zeros.*load its checkpoint first'):
        step(conv)
    conv.load_state_dict(dict(conv.state_dict()))  # zeros are no basis wherever they come from
    with pytest.raises(RuntimeError, match='all zeros'):
        step(conv)
    x = torch.randn(1, 3, 6, 6)
    conv.eval()(x)  # inference of an untrained network goes on, with and without gradients
    with torch.no_grad():
        conv.train()(x)
    initialize(conv, dict(type='Kaiming', layer='Conv2d'))  # drawn, not loaded
    with pytest.raises(RuntimeError, match='never loaded'):
        step(nn.Sequential(conv)[0])
    step(loaded(conv))


WAYS = {
    'load_state_dict': lambda conv, state: conv.load_state_dict(state, strict=False),
    'assigned': lambda conv, state: conv.load_state_dict(state, strict=False, assign=True),
    'load_basis': lambda conv, state: conv.load_basis(state['weight']),
}


@pytest.mark.parametrize('way', WAYS)
def test_ways_to_load_a_basis(way):
    if way == 'assigned' and 'assign' not in signature(nn.Module.load_state_dict).parameters:
        pytest.skip('load_state_dict(assign=True) is new in torch 2.1')
    plain = nn.Conv2d(3, 4, 3)
    conv = RefConv2d(3, 4, 3)
    WAYS[way](conv, plain.state_dict())
    assert torch.equal(conv.weight, plain.weight) and not isinstance(conv.weight, nn.Parameter)
    step(conv)
    assert ExponentialMovingAverage(conv).module.basis_loaded
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv)), conv.double().float()):
        assert other.basis_loaded
        step(other)


def test_of_another_shape_is_not_loaded():
    conv = RefConv2d(3, 4, 3)
    with pytest.raises(RuntimeError, match='size mismatch'):
        conv.load_state_dict(nn.Conv2d(3, 5, 3).state_dict(), strict=False)
    with pytest.raises(ValueError, match=r'must be \(4, 3, 3, 3\), got \(4, 3, 5, 5\)'):
        conv.load_basis(torch.ones(4, 3, 5, 5))
    assert not conv.basis_loaded


def test_1x1_is_a_plain_convolution():
    conv = build_conv_layer(dict(type='RefConv'), 3, 4, 1)
    assert conv.convmap is None and set(conv.state_dict()) == {'weight', 'bias'}
    step(conv)  # nothing has to be loaded
    assert conv.weight.grad is not None and type(fold_gmconv(conv)) is nn.Conv2d


@pytest.mark.parametrize('kernel, options, message', [
    (3, dict(map_kernel_size=2), 'map_kernel_size must be an odd number.*got 2'),
    (3, dict(map_kernel_size=0), 'map_kernel_size must be an odd number.*got 0'),
    (3, dict(map_kernel_size=(3, 3, 3)), 'or two for height and width'),
    (3, dict(map_kernel_size=True), 'odd number.*got True'),
    (3, dict(map_kernel_size=None), 'odd number.*got None'),
    (3, dict(map_kernel_size=5), r'larger than the kernel, got 5x5 for a kernel of 3x3.*\(3, 3\)'),
    ((1, 3), {}, r'got 3x3 for a kernel of 1x3: give two odd numbers, \(1, 3\) at most'),
    (2, {}, r'got 3x3 for a kernel of 2x2: give two odd numbers, \(1, 1\) at most'),
    (3, dict(init='zeros'), r"init must be one of \('paper', 'identity'\), got 'zeros'"),
    (3, dict(groups=2), 'in_channels must be divisible by groups'),
])
def test_refusals(kernel, options, message):
    with pytest.raises(ValueError, match=message):
        RefConv2d(3, 4, kernel, **options)


@pytest.mark.parametrize('shape', [(11, 1, 3, 3), (12, 5, 3, 3), (12, 1, 2, 3)])
def test_refocus_refuses_maps_of_another_kernel(shape):
    with pytest.raises(ValueError, match=r'basis \(4, 3, 3, 3\) needs a map .*\(12, groups, odd'):
        refocus(torch.ones(4, 3, 3, 3), torch.ones(shape))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('groups', [1, 4])
def test_autocast_and_half(dtype, groups):
    skip_without_autocast(dtype)
    torch.manual_seed(0)
    conv = loaded(RefConv2d(4, 8, 3, groups=groups, padding=1))
    x = torch.randn(2, 4, 8, 8)
    expected = conv(x)
    with torch.autocast('cpu', dtype=dtype):
        out = conv(x)
        assert conv.plain_weight().dtype == torch.float32  # the sum itself is not rounded
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.1)
    out.float().sum().backward()
    assert conv.convmap.weight.grad.dtype == torch.float32
    low = copy.deepcopy(conv).to(dtype)
    torch.testing.assert_close(low(x.to(dtype)).float(), expected, rtol=0.1, atol=0.2)


def test_empty_batch_memory_format_and_meta():
    conv = loaded(RefConv2d(4, 4, 3, groups=2)).to(memory_format=torch.channels_last)
    x = torch.randn(2, 4, 6, 6)
    if not hasattr(torch, 'compile'):
        conv = conv.to(memory_format=torch.contiguous_format)  # torch 1.13 fails on empty batches else
    out = conv(x[:0])
    out.sum().backward()
    assert out.shape == (0, 4, 4, 4) and conv.convmap.weight.grad is not None
    torch.testing.assert_close(conv(x), F.conv2d(x, conv.plain_weight(), conv.bias, groups=2))
    meta = RefConv2d(3, 4, 3, device='meta').eval()
    assert meta(torch.empty(1, 3, 5, 5, device='meta')).shape == (1, 4, 3, 3)
    assert 'init=' in repr(meta)


@pytest.mark.parametrize('groups', [1, 4])
def test_beside_a_batch_norm(groups):
    """mmcv multiplies the norm's scale into `weight`, the basis: right where slices don't mix, an
    error where they do. Folded first, always right."""
    torch.manual_seed(0)
    block = nn.Sequential(loaded(RefConv2d(4, 4, 3, groups=groups)), nn.BatchNorm2d(4)).eval()
    nn.init.uniform_(block[1].weight, 0.5, 2)
    nn.init.uniform_(block[1].running_mean, -1, 1)
    x = torch.randn(2, 4, 6, 6)
    expected = block(x)
    fused = fuse_conv_bn(fold_gmconv(block))
    torch.testing.assert_close(fused(x), expected, rtol=1e-4, atol=1e-5)
    if groups > 1:
        with pytest.raises(RuntimeError, match='Fold the model before its batch norms are fused'):
            fuse_conv_bn(copy.deepcopy(block))
    else:
        fused = fuse_conv_bn(copy.deepcopy(block))
        torch.testing.assert_close(fused(x), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(fold_gmconv(fused)(x), expected, rtol=1e-4, atol=1e-5)
    if not hasattr(ConvModule, 'turn_on_efficient_conv_bn_eval'):
        return  # mmcv before 2.1
    module = ConvModule(4, 4, 3, conv_cfg=dict(type='RefConv'), groups=groups,
                        norm_cfg=dict(type='BN'), act_cfg=None, efficient_conv_bn_eval=True)
    loaded(module.conv)
    module.eval()
    if groups > 1:
        with pytest.raises(RuntimeError, match='efficient_conv_bn_eval'):
            module(x)
    else:
        torch.testing.assert_close(module(x), module.norm(module.conv(x)), rtol=1e-4, atol=1e-5)
