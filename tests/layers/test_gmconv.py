"""GMConv2d against a naive float64 loop, and everything ``nn.Conv2d``'s users rely on."""
import copy
import math
import pickle

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_conv_layer
from mmengine.model import initialize

from gmconv_mmdet import GMConv2d
from gmconv_mmdet.layers import SIGMA_PATTERNS

from ..networks import skip_without_autocast
from ..oracles import loop_gmconv


def layer(*args, dynamic=False, **kwargs):
    """A layer in float64 with trained-looking sigmas."""
    conv = build_conv_layer(dict(type='GMConv', dynamic=dynamic, **kwargs.pop('gm', {})), *args,
                            dtype=torch.float64, **kwargs)
    if dynamic:
        nn.init.normal_(conv.sigma_predictor.w1, std=0.3)
        with torch.no_grad():
            conv.sigma_predictor.b1.add_(-3.7)
    else:
        nn.init.constant_(conv.sigma, 1.3)
    return conv


SHAPES = [
    # arguments, further arguments, (H, W)
    ((3, 4, 3), dict(padding=1), (5, 6)),
    ((2, 6, (3, 5)), dict(stride=(2, 1), padding=(1, 2), bias=False), (7, 6)),
    ((4, 6, (4, 2)), dict(dilation=(1, 3), groups=2, padding=3), (6, 7)),
    ((4, 4, 3), dict(groups=4, padding='same', dilation=2), (5, 5)),
    ((3, 2, (1, 5)), dict(padding='valid'), (2, 6)),
    ((3, 2, 6), dict(padding='same', padding_mode='circular'), (8, 7)),
    ((2, 3, 5), dict(padding=2, padding_mode='reflect', stride=2), (5, 6)),
    ((1, 1, 7), dict(padding=(3, 2), padding_mode='replicate'), (4, 4)),
]


@pytest.mark.parametrize('kind', ['static', *SIGMA_PATTERNS])
@pytest.mark.parametrize('args, kwargs, size', SHAPES)
def test_equals_oracle(kind, args, kwargs, size):
    torch.manual_seed(0)
    gm = {} if kind == 'static' else dict(sigma_pattern=kind, reduction=1)
    conv = layer(*args, dynamic=kind != 'static', gm=gm, **kwargs)
    assert type(conv) is GMConv2d
    x = torch.randn(2, args[0], *size, dtype=torch.float64)
    assert (conv(x) - loop_gmconv(conv, x)).abs().max() < 1e-9
    if conv.padding_mode == 'zeros' or hasattr(torch, 'compile'):  # torch 1.13 pads batches only
        assert torch.equal(conv(x[0]), conv(x[:1])[0])  # without a batch dimension, as nn.Conv2d


@pytest.mark.parametrize('dynamic', [False, True])
def test_gradcheck(dynamic):
    torch.manual_seed(1)
    conv = layer(4, 2, (3, 2), dynamic=dynamic, groups=2, stride=2, padding=1)
    x = torch.randn(2, 4, 4, 5, dtype=torch.float64, requires_grad=True)
    parameters = tuple(conv.parameters())
    assert len(parameters) == (5 if dynamic else 3)
    assert torch.autograd.gradcheck(lambda x, *_: conv(x), (x, *parameters))


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_a_sample_does_not_depend_on_its_batch_mates(memory_format):
    conv = layer(3, 8, 7, dynamic=True, stride=2, padding=3).to(memory_format=memory_format)
    x = torch.randn(5, 3, 17, 12, dtype=torch.float64).to(memory_format=memory_format)
    together = conv(x)
    assert torch.equal(together, torch.cat([conv(sample) for sample in x.split(1)]))
    assert together.is_contiguous(memory_format=memory_format)
    assert conv.mask(x).shape == (5, 7, 7)
    assert not torch.allclose(conv.mask(x)[0], conv.mask(x)[1])


@pytest.mark.parametrize('dynamic', [False, True])
def test_empty_batch_keeps_every_parameter_in_the_graph(dynamic):
    conv = layer(3, 4, 3, dynamic=dynamic)
    out = conv(torch.zeros(0, 3, 8, 8, dtype=torch.float64))
    assert out.shape == (0, 4, 6, 6)
    out.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in conv.parameters())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('dynamic', [False, True])
def test_autocast_and_half(dtype, dynamic):
    skip_without_autocast(dtype)
    torch.manual_seed(0)
    conv = layer(3, 8, 3, dynamic=dynamic, padding=1).float()
    x = torch.randn(2, 3, 8, 8)
    expected = conv(x)
    with torch.autocast('cpu', dtype=dtype):
        out = conv(x)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.05)
    out.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.dtype == torch.float32
               for p in conv.parameters())
    low = copy.deepcopy(conv).to(dtype)
    torch.testing.assert_close(low(x.to(dtype)).float(), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize('sigma', [0.0, 1e-8, -2.0, 1e15])
def test_extreme_sigma_forward_and_backward(sigma):
    conv = layer(2, 3, 5, padding=2)
    nn.init.constant_(conv.sigma, sigma)
    x = torch.randn(1, 2, 6, 6, dtype=torch.float64)
    out = conv(x)
    out.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in conv.parameters())
    if abs(sigma) < 1e-7:  # the centre alone is left: a 1x1 convolution
        torch.testing.assert_close(out, F.conv2d(x, conv.weight[..., 2:3, 2:3], conv.bias))
    if sigma == 1e15:
        assert torch.equal(out, F.conv2d(x, conv.weight, conv.bias, padding=2))


@pytest.mark.parametrize('dynamic', [False, True])
def test_1x1_is_a_plain_convolution(dynamic):
    conv = GMConv2d(3, 4, 1, dynamic=dynamic)
    plain = nn.Conv2d(3, 4, 1)
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(2, 3, 5, 5)
    assert torch.equal(conv(x), plain(x))
    assert conv.sigma is None and conv.sigma_predictor is None and not conv.mask_parameters()
    assert torch.equal(conv.mask(x), torch.ones(1, 1))


@pytest.mark.parametrize('dynamic', [False, True])
def test_copies_pickles_and_state_dict(dynamic):
    conv = layer(3, 4, 3, dynamic=dynamic)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    fresh = GMConv2d(3, 4, 3, dynamic=dynamic, dtype=torch.float64)
    fresh.load_state_dict(conv.state_dict())
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv)), fresh):
        assert torch.equal(other(x), conv(x))
    new = set(conv.state_dict()) - set(nn.Conv2d(3, 4, 3).state_dict())
    assert all(name.startswith('sigma') for name in new)


def test_is_a_conv2d_for_mmengine():
    """MMEngine's initialisers act on it as on nn.Conv2d and leave its masks alone."""
    block = nn.Sequential(ConvModule(3, 4, 3, conv_cfg=dict(type='GMConv', dynamic=True)),
                          ConvModule(4, 4, 3, conv_cfg=dict(type='GMConv', init_sigma=2)))
    assert all(isinstance(module.conv, nn.Conv2d) for module in block)
    initialize(block, [dict(type='Constant', val=7, bias=7, layer='Conv2d'),
                       dict(type='Constant', val=3, bias=3, layer='Linear')])
    assert all((module.conv.weight == 7).all() for module in block)
    assert block[0].conv.sigma_predictor.is_initial() and block[1].conv.sigma.item() == 2


def test_switch_to_deploy_leaves_a_plain_convolution():
    conv = layer(3, 4, (3, 4), padding=1)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    expected = conv(x)
    for _ in range(2):  # safe to repeat
        conv.switch_to_deploy()
        torch.testing.assert_close(conv(x), expected, rtol=1e-12, atol=1e-12)
    plain = nn.Conv2d(3, 4, (3, 4), padding=1, dtype=torch.float64)
    plain.load_state_dict(conv.state_dict())  # strict
    assert torch.equal(plain(x), conv(x))
    dynamic = layer(3, 4, 3, dynamic=True)
    expected = dynamic(x)
    dynamic.switch_to_deploy()
    assert dynamic.dynamic and torch.equal(dynamic(x), expected)


def test_meta_device_and_repr():
    conv = GMConv2d(3, 4, 3, dynamic=True, device='meta')
    assert conv.sigma_predictor.w0.device.type == 'meta'
    assert 'mask=dynamic' in repr(conv) and "sigma_pattern='sigma_ratio'" in repr(conv)
    assert 'mask=static' in repr(GMConv2d(3, 4, 3)) and 'mask=plain' in repr(GMConv2d(3, 4, 1))


@pytest.mark.parametrize('options, message', [
    *[(dict(init_sigma=value), rf'init_sigma must be a positive finite number, got {value!r}')
      for value in (0, -1.0, math.inf, math.nan, '5', None)],
    *[(dict(reduction=value), rf'reduction must be a positive finite number, got {value!r}')
      for value in (0, -4 / 3, math.inf)],
    (dict(sigma_pattern='ratio'), "sigma_pattern must be one of .*, got 'ratio'"),
    (dict(dynamic='yes'), "dynamic must be True or False, got 'yes'"),
])
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        GMConv2d(3, 4, 3, **options)


def test_dynamic_mask_needs_input():
    with pytest.raises(ValueError, match=r'call mask\(x\)'):
        GMConv2d(3, 4, 3, dynamic=True).mask()
