"""convert_gmconv on networks of torchvision and timm, and on one with everything that is left."""
from __future__ import annotations

import copy
import io
import re

import pytest
import torch
import torch.nn as nn
from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
from mmcv.cnn.bricks.wrappers import Conv2d as MmcvConv2d
from mmcv.ops import DeformConv2dPack
from mmdet.registry import MODELS
from torch.nn.utils import prune, weight_norm

from gmconv_mmdet import GMConv2d, RefConv2d, conversion_report, convert_gmconv, fold_gmconv
from gmconv_mmdet.conversion.same_padding import pad_same
from gmconv_mmdet.conversion.swap import swap
from gmconv_mmdet.layers.find_layers import gm_layers

torchvision = pytest.importorskip('torchvision')


def timm_network(name):
    return pytest.importorskip('timm').create_model(name, num_classes=10)


NETWORKS = {
    'resnet18': lambda: torchvision.models.resnet18(),
    'mobilenet_v3': lambda: torchvision.models.mobilenet_v3_small(),
    'timm efficientnet': lambda: timm_network('tf_efficientnet_lite0'),
    'timm convnext': lambda: timm_network('convnext_atto'),
}


def images(count=2, size=64):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def relative(outputs, expected):
    return ((outputs - expected).abs().max() / expected.abs().max()).item()


def settled(network):
    """In evaluation mode, with statistics of batch norm that keep values of ordinary size."""
    torch.manual_seed(0)
    with torch.no_grad():
        network.train()
        for _ in range(3):
            network(images(4))
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize('name', NETWORKS)
def test_function_training_and_folding(name):
    torch.manual_seed(0)
    plain = settled(NETWORKS[name]())
    before = copy.deepcopy(plain.state_dict())
    net = convert_gmconv(plain)
    assert not gm_layers(plain)
    assert all(torch.equal(value, before[key]) for key, value in plain.state_dict().items())
    spatial = [key for key, module in plain.named_modules()
               if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)]
    assert list(gm_layers(net)) == spatial == list(conversion_report(net).converted)
    assert [key for key, layer in gm_layers(net).items() if layer.dynamic] == spatial[:1]
    assert not net.training and relative(net(images()), plain(images())) < 1e-4

    net.train()
    (net(images(4)) * torch.randn(4, 1)).sum().backward()
    for key, parameter in net.named_parameters():
        if 'sigma' in key:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key

    static = convert_gmconv(plain, stem='static')
    for layer in gm_layers(static).values():
        layer.sigma.data.uniform_(1, 4)
    folded = fold_gmconv(static)
    assert [type(m) for m in folded.modules()] == [type(m) for m in plain.modules()]
    stock = NETWORKS[name]().eval()
    stock.load_state_dict(folded.state_dict())
    assert relative(stock(images()), static(images())) < 1e-5
    assert relative(folded(images()), static(images())) < 1e-5


class StdConv2d(nn.Conv2d):
    """Has the name of timm's."""


class AllKinds(nn.Module):

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 7, padding=3)
        self.point = nn.Conv2d(4, 4, 1)
        self.deform = DeformConv2dPack(4, 4, 3, padding=1)
        self.other = StdConv2d(4, 4, 3, padding=1)
        self.normed = weight_norm(nn.Conv2d(4, 4, 3, padding=1))
        self.pruned = prune.identity(nn.Conv2d(4, 4, 3, padding=1), 'weight')
        self.parametrized = nn.Conv2d(4, 4, 3, padding=1)
        nn.utils.parametrize.register_parametrization(self.parametrized, 'weight', nn.Identity())
        self.tied_a = nn.Conv2d(4, 4, 3, padding=1)
        self.tied_b = nn.Conv2d(4, 4, 3, padding=1)
        self.tied_b.weight = self.tied_a.weight
        self.shared = nn.Conv2d(4, 4, 3, padding=1)
        self.again = self.shared
        self.kept = [self.shared]  # a reference that no module knows
        self.wrapper = MmcvConv2d(4, 4, (1, 3), padding=(0, 1), groups=4)
        self.patched = nn.Conv2d(4, 4, 3, padding=1)
        self.patched.forward = self.patched.forward
        self.up = nn.ConvTranspose2d(4, 4, 3, padding=1)
        self.big = nn.Conv2d(4, 4, 31, padding=15)

    def forward(self, x):
        for name, layer in self.named_children():
            x = layer(x)
        return self.kept[0](self.again(x))


def test_everything_else_is_left_and_named():
    torch.manual_seed(0)
    net = AllKinds()
    expected = net(images(1, 16))
    convert_gmconv(net, init_sigma=4, inplace=True)  # torch can't copy weight_norm and pruning
    report = conversion_report(net)
    assert report.converted == dict(stem='dynamic', shared='static', wrapper='static')
    assert report.left['big'].startswith('with init_sigma=4 the mask of a 31x31 kernel falls to')
    del report.left['big']
    computed = 'its weight is computed from other tensors (weight_norm, pruning, ...)'
    assert report.left == dict(
        point='1x1', deform='deformable (DeformConv2dPack)', normed=computed, pruned=computed,
        other='weight-standardised (StdConv2d)', tied_a='shares its weight with tied_b',
        tied_b='shares its weight with tied_a', patched='its forward was replaced',
        parametrized='its weight is parametrized (ParametrizedConv2d)',
        up='no plain 2-d convolution (ConvTranspose2d)')
    assert str(report).startswith('3 of 13 convolutions became GMConv\n  dynamic (1): stem\n')
    assert net.again is net.shared is net.kept[0] and isinstance(net.shared, GMConv2d)
    assert relative(net(images(1, 16)), expected) < 1e-4


def test_hooks_modes_dtypes_and_objects_stay():
    seen = []
    net = nn.Sequential(nn.Conv2d(3, 4, 3, dtype=torch.float64), nn.Conv2d(4, 4, 3)).to(
        torch.float64)
    handle = net[0].register_forward_hook(lambda module, *_: seen.append(module))
    net[0].note = 'mine'
    net[1].weight.requires_grad_(False)
    net[1].eval()
    modules, parameters = list(net.modules()), dict(net.named_parameters())
    x = images(1, 8).double()
    expected = net(x)
    assert convert_gmconv(net, inplace=True) is net
    assert all(module in net.modules() for module in modules)
    assert all(net.get_parameter(name) is value for name, value in parameters.items())
    assert net[0].training and not net[1].training and net[0].note == 'mine'
    assert net[1].sigma.dtype == torch.float64 and not net[1].sigma.requires_grad
    assert conversion_report(net).converted == {'0': 'dynamic', '1': 'static, frozen'}
    torch.testing.assert_close(net(x), expected)
    assert seen == [net[0]] * 2
    handle.remove()
    net(x)
    assert len(seen) == 2
    copied = copy.deepcopy(net)
    assert torch.equal(copied(x), net(x))
    with pytest.raises(ValueError, match='no report on this Sequential'):
        conversion_report(copied)
    saved = io.BytesIO()
    torch.save(net.state_dict(), saved)
    assert set(net.state_dict()) - set(parameters) == {
        '0.sigma_predictor.w0', '0.sigma_predictor.w1', '0.sigma_predictor.b1', '1.sigma'}


def test_a_convolution_alone():
    conv = nn.Conv2d(3, 4, 3)
    x = images(1, 8)
    layer = convert_gmconv(conv, stem='static')
    assert type(layer) is GMConv2d and type(conv) is nn.Conv2d
    torch.testing.assert_close(layer(x), conv(x))
    assert 'static (1): (the network)' in str(conversion_report(layer))


@pytest.mark.parametrize('body, expected', [
    (None, []), ('layer1', ['layer1']), (['layer1', 'layer[34]'], ['layer1', 'layer3', 'layer4']),
    (('layer?.0.conv2', ), ['layer1', 'layer2', 'layer3', 'layer4'])])
def test_stem_and_body(body, expected):
    net = convert_gmconv(torchvision.models.resnet18(), body=body)
    converted = list(conversion_report(net).converted)
    assert list(dict.fromkeys(name.split('.')[0] for name in converted)) == ['conv1', *expected]
    if isinstance(body, tuple):
        assert all(name.endswith('.0.conv2') for name in converted[1:])
    plain_stem = convert_gmconv(torchvision.models.resnet18(), stem=None)
    assert conversion_report(plain_stem).left['conv1'] == 'not chosen (stem=None)'


def test_without_preserve_the_weights_stay():
    conv = nn.Sequential(nn.Conv2d(3, 4, 3))
    net = convert_gmconv(conv, preserve=False, init_sigma=0.1)
    assert torch.equal(net[0].weight, conv[0].weight)
    assert relative(net(images()), conv(images())) > 0.1


def test_half_precision_keeps_the_function_or_is_left():
    conv = nn.Sequential(nn.Conv2d(3, 4, 3, dtype=torch.float16))
    net = convert_gmconv(conv)
    assert net[0].weight.dtype == torch.float16
    torch.testing.assert_close(net[0].mask(images())[0].half() * net[0].weight, conv[0].weight,
                               rtol=2e-3, atol=1e-6)
    conv[0].weight.data.fill_(6.5e4)
    with pytest.raises(ValueError, match='the weight exceeds torch.float16'):
        convert_gmconv(conv)


@pytest.mark.parametrize('network, arguments, error, says', [
    ('net', dict(stem=True), ValueError, 'stem must be one of'),
    ('net', dict(body=3), ValueError, 'body must be'),
    ('net', dict(body=['layer9']), ValueError, "body: no convolution larger than 1x1 in 'layer9'"),
    ('net', dict(body='dynamic'), ValueError, "in 'dynamic', but in 1, 2"),
    ('net', dict(preserve=1), ValueError, 'preserve must be True or False'),
    ('net', dict(sigma=3), TypeError, "no argument 'sigma'.*init_sigma"),
    ('net', dict(init_sigma=-1), ValueError, '0: init_sigma must be a positive'),
    ('net', dict(stem=None, body=None), ValueError, 'nothing in Sequential can become GMConv'),
    ('net', dict(init_sigma=0.2), ValueError, 'nothing in Sequential.*too small to divide'),
    ('linear', {}, ValueError, 'nothing in Linear'),
    ('masked', {}, ValueError, r'has GMConv layers already \(0\)'),
    ('uncopied', {}, ValueError, "can't be copied.*inplace=True")])
def test_errors(network, arguments, error, says):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))
    if network == 'linear':
        net = nn.Linear(3, 4)
    elif network == 'masked':
        net = convert_gmconv(net, body=None)
    elif network == 'uncopied':
        net.product = torch.ones(1, requires_grad=True) * 2
    with pytest.raises(error, match=re.compile(says, re.DOTALL)):
        convert_gmconv(net, **arguments)
    if network == 'uncopied':
        convert_gmconv(net, inplace=True)


@pytest.mark.parametrize('size, kernel, stride, dilation', [
    ((9, 12), 3, 2, 1), ((8, 8), 3, 2, 1), ((7, 10), (5, 2), (3, 1), (1, 2)), ((5, 5), 7, 4, 1),
    ((3, 3), 1, 3, 1)])
@pytest.mark.parametrize('dynamic', [True, False])
def test_padding_as_tensorflow_does(size, kernel, stride, dilation, dynamic):
    conv = Conv2dAdaptivePadding(4, 6, kernel, stride, dilation=dilation, groups=2)
    x = torch.randn(2, 4, *size)
    padded = pad_same(x, conv.kernel_size, conv.stride, conv.dilation)
    plain = nn.functional.conv2d(padded, conv.weight, conv.bias, conv.stride, 0, conv.dilation, 2)
    torch.testing.assert_close(plain, conv(x))
    if conv.kernel_size == (1, 1):
        return
    layer = convert_gmconv(conv, stem='dynamic' if dynamic else 'static')
    torch.testing.assert_close(layer(x), conv(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.jit.trace(layer, x, check_trace=False)(x), conv(x), rtol=1e-4,
                               atol=1e-5)
    folded = fold_gmconv(layer)
    assert type(folded) is (type(layer) if dynamic else Conv2dAdaptivePadding)
    torch.testing.assert_close(folded(x), layer(x))


def test_gm_backbone_converts_what_pads_as_tensorflow_does():
    torch.manual_seed(0)
    config = dict(type='EfficientNet', arch='b0', out_indices=(3, 4))
    plain = MODELS.build(dict(config))
    net = MODELS.build(dict(type='GMBackbone', backbone=dict(config)))
    plain.train(False)
    net.train(False)
    net.load_state_dict(plain.state_dict())
    assert list(gm_layers(net)) == [name for name, module in plain.named_modules() if isinstance(
        module, Conv2dAdaptivePadding) and module.kernel_size != (1, 1)]
    assert all(relative(a, b) < 1e-4 for a, b in zip(net(images()), plain(images())))


def test_padding_of_a_refocused_convolution():
    net = nn.Sequential(Conv2dAdaptivePadding(3, 4, 3, 2))
    x, expected = images(), net(images())
    swap(net, ['0'], 'RefConv', init='identity', trained=True)
    assert isinstance(net[0], RefConv2d)
    torch.testing.assert_close(net(x), expected)
    assert type(fold_gmconv(net)[0]) is Conv2dAdaptivePadding


@pytest.mark.parametrize('at', [0, 1])
def test_examples_of_the_page(repo, at):
    text = (repo / 'docs' / 'any_network.md').read_text(encoding='utf-8')
    example = re.findall(r'```python\n(.*?)```', text, re.DOTALL)[at]
    if 'timm' in example:
        pytest.importorskip('timm')
    assert len(example.splitlines()) <= 10
    exec(compile(example, f'any_network.md, example {at}', 'exec'), {})
