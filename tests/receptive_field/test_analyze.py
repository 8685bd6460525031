"""Published numbers, and random graphs against the support of real gradients."""

import json
from math import inf

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmdet.models.backbones import ResNet
from mmdet.models.necks import FPN

from gmconv_mmdet.lab.survey import build_network
from gmconv_mmdet.layers import GMConv2d
from gmconv_mmdet.receptive_field.analyze import ReceptiveFieldError, analyze
from gmconv_mmdet.receptive_field.tracing.field_trace import trace


def network(name):
    return build_network(f'torchvision::{name}')


@pytest.mark.slow
@pytest.mark.parametrize('name, smallest, largest, wasted', [
    ('alexnet', 195, 195, {64: 3}), ('vgg16', 212, 212, {64: 4}),
    ('resnet18', 139, 435, {64: 1}), ('resnet50', 75, 427, {64: 2, 32: 8, 224: 0}),
    ('resnet101', 75, 971, {})])
def test_published_numbers(name, smallest, largest, wasted):
    """Useful sizes, and the number of unproductive convolutions by input size."""
    model = network(name)
    report = analyze(model, (224, 224))
    assert report.min_size == (smallest, smallest) and report.max_size == (largest, largest)
    convolutions = {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    for size, count in wasted.items():
        unproductive = analyze(model, (size, size)).unproductive
        assert set(unproductive) <= convolutions and len(unproductive) == count


@pytest.mark.parametrize('options, sizes', [
    (dict(style='pytorch'), (35, 91, 267, 427)), (dict(style='caffe'), (35, 99, 291, 483)),
    (dict(dilations=(1, 1, 1, 2), strides=(1, 2, 2, 1)), (35, 91, 267, 459))])
def test_mmdet_resnet50(options, sizes):
    report = analyze(ResNet(depth=50, **options), (96, 64))
    assert [output.r_max for output in report.outputs] == [(r, r) for r in sizes]
    assert report.modules['layer4'].r_max == (sizes[3], sizes[3])


# Gradient support as the oracle

def make_positive(model):
    """No path cancels another, no ReLU is shut: every gradient that can flow does."""
    model = model.double()
    model.eval()
    for parameter in model.parameters():
        nn.init.uniform_(parameter.data, 0.05, 0.15)
    return model


def support(y, x, at):
    """Intervals ``((top, bottom), (left, right))`` of the input behind ``y[..., at]``; their
    sizes."""
    grad = torch.autograd.grad(y[0, :, at[0], at[1]].sum(), x, retain_graph=True)[0][0].sum(0)
    spans = []
    for axis in (1, 0):
        hit = grad.ne(0).any(axis).nonzero().flatten()
        spans.append((int(hit[0]), int(hit[-1])) if len(hit) else None)
    return tuple(spans), tuple(0 if s is None else s[1] - s[0] + 1 for s in spans)


class Fan(nn.Module):
    """Branches of the same total stride, cropped to the smallest map and joined."""

    def __init__(self, branches, how):
        super().__init__()
        self.branches, self.how = nn.ModuleList(branches), how

    def forward(self, x):
        maps = [branch(x) for branch in self.branches]
        h, w = (min(m.shape[d] for m in maps) for d in (2, 3))
        maps = [m[..., :h, :w] for m in maps]
        if self.how == 'cat':
            return torch.cat(maps, 1).sum(1, keepdim=True)
        if self.how == 'gate':
            gate = F.adaptive_avg_pool2d(maps[0], 1)
            return sum(maps) * torch.sigmoid(gate)
        return sum(maps)


two = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def layer(draw, strides=None):
    kernel, dilation = draw(two(1, 4)), draw(two(1, 2))
    stride = strides or draw(two(1, 2))
    if draw(st.integers(0, 3)) == 0:
        k = [max(k, s) for k, s in zip(kernel, stride)]
        return nn.MaxPool2d(k, stride, [n // 2 for n in k])
    return nn.Conv2d(1, 1, kernel, stride, draw(two(0, 3)), dilation)


@st.composite
def fan(draw):
    stride = draw(two(1, 2))
    branches = []
    for _ in range(draw(st.integers(2, 3))):
        parts = [draw(layer(stride))]
        parts += [draw(layer((1, 1))) for _ in range(draw(st.integers(0, 1)))]
        branches.append(nn.Sequential(*parts))
    return Fan(branches, draw(st.sampled_from(['add', 'cat', 'gate'])))


networks = st.lists(st.one_of(layer(), fan()), min_size=1, max_size=4).map(
    lambda parts: nn.Sequential(*parts))


def paths(model):
    """Every path of the graph on its own, as a plain chain."""
    if isinstance(model, Fan):
        return [chain for branch in model.branches for chain in paths(branch)]
    if isinstance(model, nn.Sequential):
        chains = [[]]
        for part in model:
            chains = [chain + tail for chain in chains for tail in paths(part)]
        return chains
    return [[model]]


def average_pooled(model):
    """Max pooling sends its gradient to one pixel only; average pooling reads the same pixels."""
    for name, part in list(model.named_modules()):
        if isinstance(part, nn.MaxPool2d):
            parent = model.get_submodule(name.rpartition('.')[0])
            setattr(parent, name.rpartition('.')[2],
                    nn.AvgPool2d(part.kernel_size, part.stride, part.padding))
    return model


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks)
def test_random_graphs(model):
    """Each path's smallest field, the union's exact interval and the jump."""
    report = analyze(model, (256, 256), channels=1)
    output = report.outputs[0]
    size = [int(2 * r + 12 * j + 24) for r, j in zip(output.r_max, output.jump)]
    fields = trace(model, tuple(size), channels=1).outputs[0]
    oracle = make_positive(average_pooled(model))
    for part in oracle.modules():
        if isinstance(part, Fan) and part.how == 'gate':
            part.how = 'add'   # the global path isn't counted
    x = torch.ones(1, 1, *size, dtype=torch.double, requires_grad=True)
    y = oracle(x)
    at = [n // 2 for n in y.shape[-2:]]
    spans, extent = support(y, x, at)
    assert extent == output.r_max
    assert spans == tuple(axis.hull.interval(i) for axis, i in zip(fields.axes, at))
    assert [c + i * j for c, i, j in zip(output.center, at, output.jump)] == \
        [sum(span) / 2 for span in spans]
    smallest = []
    for chain in paths(oracle):
        y = nn.Sequential(*chain)(x)
        smallest.append(support(y, x, [n // 2 for n in y.shape[-2:]])[1])
    assert output.r_min == tuple(min(s[axis] for s in smallest) for axis in (0, 1))


def test_windowed_attention():
    """torchvision's Swin with small windows, as a feature extractor."""
    torch.manual_seed(0)
    model = torchvision.models.swin_transformer.SwinTransformer(
        patch_size=[2, 2], embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=[3, 3],
        num_classes=1).features.append(torchvision.ops.Permute([0, 3, 1, 2])).double()
    model.eval()
    size = (72, 96)   # whole windows: nothing is padded
    fields = trace(model, size).outputs[0]
    x = torch.randn(1, 3, *size, dtype=torch.double, requires_grad=True)
    y = model(x)
    for at in ((8, 10), (9, 11), (10, 12), (7, 9)):
        spans, _ = support(y.pow(2), x, at)
        assert spans == tuple(axis.hull.interval(i) for axis, i in zip(fields.axes, at))


@pytest.mark.slow
def test_pyramid_top_down_path():
    """An FPN's finest level sees more than the coarsest: through the path down."""
    model = nn.Sequential(ResNet(depth=18, base_channels=8), FPN([8, 16, 32, 64], 8, 5))
    report = analyze(model, (256, 320))
    assert [output.jump for output in report.outputs] == [(j, j) for j in (4, 8, 16, 32, 64)]
    assert all(output.exact for output in report.outputs)
    fields = trace(model, (640, 640)).outputs
    oracle = make_positive(model)
    oracle[0].maxpool = nn.AvgPool2d(3, 2, 1)
    x = torch.ones(1, 3, 640, 640, dtype=torch.double, requires_grad=True)
    outputs = oracle(x)
    for level in (0, 2, 3):
        i = outputs[level].shape[-1] // 2
        spans, _ = support(outputs[level], x, (i, i + 1))
        assert spans == tuple(axis.hull.interval(p)
                              for axis, p in zip(fields[level].axes, (i, i + 1)))


# The layers, one rule at a time

class Gated(nn.Module):
    """Squeeze-excitation around a 3x3 convolution, then a classifier."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.squeeze = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.conv(x)
        x = x * torch.sigmoid(self.squeeze(x.mean((2, 3), keepdim=True)))
        return self.head(x.mean((2, 3))), x


def test_global_path_is_noted_and_not_counted():
    report = analyze(Gated(), (20, 30))
    head, features = report.outputs
    assert features.r_min == features.r_max == (3, 3) and features.has_global_path == (True, True)
    assert head.r_min == head.r_max == (inf, inf) and head.jump == (inf, inf)
    assert report.layers['squeeze'].status == 'global'
    assert report.layers['conv'].has_global_path == (False, False)
    assert report.max_size == (3, 3) and report.unproductive == []
    json.dumps(report.as_dict(), allow_nan=False)


def test_axes_are_analysed_separately():
    model = nn.Sequential(nn.Conv2d(3, 4, (1, 7), (1, 2)), nn.Conv2d(4, 4, (5, 3)),
                          nn.Conv2d(4, 4, 3))
    report = analyze(model, (40, 9 + 12))
    assert [report.layers[n].r_max for n in '012'] == [(1, 7), (5, 11), (7, 15)]
    assert report.layers['2'].jump == (1, 2)
    assert not report.unproductive
    narrow = analyze(nn.Sequential(*list(model)[:2], nn.Conv2d(4, 4, 3, padding=1)), (40, 11))
    assert narrow.layers['2'].saturated == (False, True)
    assert not narrow.layers['2'].unproductive and not narrow.layers['2'].critical


def test_gaussian_mask_keeps_the_theoretical_field():
    plain = nn.Sequential(nn.Conv2d(3, 4, 7, 2, 3), nn.Conv2d(4, 4, 3, padding=1))
    masked = nn.Sequential(GMConv2d(3, 4, 7, 2, 3, init_sigma=0.05),
                           GMConv2d(4, 4, 3, padding=1, dynamic=True))
    expected, found = analyze(plain, (32, 32)), analyze(masked, (32, 32))
    for name in '01':
        assert found.layers[name].r_max == expected.layers[name].r_max
    assert expected.layers['1'].r_effective == (11, 11)
    # the stem's mask leaves its centre alone, the flat mask behind it almost all of its 3 x 3
    assert found.layers['0'].r_effective == pytest.approx((1, 1))
    assert found.layers['1'].r_effective[0] == pytest.approx(1 + 2 * 2, abs=0.1)
    assert found.layers['1'].has_global_path == (True, True)   # the predictor's pooling


@pytest.mark.slow
def test_deformable_convolution_counts_its_nominal_grid():
    model = ResNet(depth=50, dcn=dict(type='DCNv2', deform_groups=1),
                   stage_with_dcn=(False, False, True, True))
    report, plain = analyze(model, (64, 64)), analyze(ResNet(depth=50), (64, 64))
    assert [o.r_max for o in report.outputs] == [o.r_max for o in plain.outputs]
    assert report.layers['layer3.0.conv2'].kind == 'deformable convolution'
    if tuple(map(int, torchvision.__version__.split('.')[:2])) < (0, 17):
        return  # its deform_conv2d knows no meta tensors
    moved = nn.Module()
    moved.forward = lambda x: torchvision.ops.deform_conv2d(
        x, F.conv2d(x, torch.ones(18, 3, 5, 5), padding=2), torch.ones(2, 3, 3, 3), padding=(1, 1))
    assert analyze(moved, (20, 20)).outputs[0].r_max == (5, 5)


def test_shuffled_pixels():
    model = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 12, 3, padding=1), nn.PixelShuffle(2),
                          nn.Conv2d(3, 3, 3, padding=1))
    output = analyze(model, (24, 24)).outputs[0]
    # two rows of blocks of 2, each seeing 3 blocks
    assert output.r_max == (8, 8) and output.jump == (1, 1)


def test_repeated_modules_have_names_of_their_own():
    shared = nn.Conv2d(3, 3, 3)
    assert list(analyze(nn.Sequential(shared, nn.ReLU(), shared), (9, 9)).layers) == ['0', '0#2']


def test_macs_and_parameters():
    report = analyze(network('resnet18'), (224, 224))
    assert report.params == 11689512
    assert report.macs == pytest.approx(1.814e9, rel=0.001)   # torchvision prints 1.81 GFLOPs


def test_module_is_left_alone():
    model = torchvision.models.resnet18(weights=None).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    analyze(model, (64, 64))
    assert model.training and not model.conv1._forward_hooks
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


# Refusals

@pytest.mark.parametrize('size', [(0, 32), 64, (32,), (32, 32, 3), (32.5, 32), 'ab'])
def test_bad_size(size):
    with pytest.raises(ValueError, match=r'\(H, W\)'):
        analyze(nn.Conv2d(3, 3, 3), size)


class Refused(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.function = forward

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize('model, reason', [
    (Refused(lambda x: x + x.flip(3)), 'Refused.*flip'),
    (Refused(lambda x: x if x.sum() > 0 else -x), 'without data'),
    (Refused(lambda x: x.flatten(2).sort(-1)[0]), 'sort'),
    (nn.Sequential(nn.Conv2d(3, 3, 9)), r'cannot run at 5 x 5')])
def test_refused_with_a_reason(model, reason):
    from mmcv.ops.deform_conv import DeformConv2dFunction
    original = DeformConv2dFunction.forward
    with pytest.raises(ReceptiveFieldError, match=reason):
        analyze(model, (5, 5))
    assert DeformConv2dFunction.forward is original  # the stand-ins are gone
