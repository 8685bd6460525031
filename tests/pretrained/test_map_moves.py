"""RefConv's maps between checkpoints and networks: every tensor accounted for, outputs kept."""
import pytest
import torch
from mmdet.models.backbones import ResNet

from gmconv_mmdet import (
    GMResNet,
    RefConv2d,
    RefConvBackbone,
    gaussian_mask,
    load_pretrained,
    refocus,
)
from gmconv_mmdet.checkpoints import CheckpointError
from gmconv_mmdet.pretrained.publish import convert_backbone

from ..oracles import accounted

SMALL = dict(base_channels=8, zero_init_residual=False)
SWAPPED = 17  # convolutions larger than 1x1 in ResNet-18


def resnet(kind=None, stem=True, seed=0, **options):
    torch.manual_seed(seed)
    if kind is None:
        net = ResNet(18, **SMALL)
    elif kind == 'RefConv':
        net = RefConvBackbone(dict(type='ResNet', depth=18, **SMALL), ref_cfg=options)
    else:
        net = GMResNet(18, gm_stem=stem, gm_cfg=options, **SMALL)
    net = net.double()
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith('sigma'):
                tensor.uniform_(1.5, 4)
            elif 'running_var' in name:
                tensor.uniform_(0.5, 1.5)
    net.eval()
    return net


def same(net, other, tolerance=1e-9):
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return all(torch.allclose(a, b, rtol=tolerance, atol=tolerance)
               for a, b in zip(net(x), other(x)))


def loaded_bases(net):
    return [layer.basis_loaded for layer in net.modules() if isinstance(layer, RefConv2d)]


def with_masks(state, sigma=2.0):
    """A state dict as networks with a mask on refocused kernels (GMRefConv) wrote it."""
    state = dict(state)
    for name in list(state):
        if name.endswith('.convmap.weight'):
            state[name.replace('convmap.weight', 'sigma')] = torch.full((1, ), sigma).double()
    return state


def test_plain_weight_becomes_the_basis():
    plain = resnet()
    net = resnet('RefConv', seed=1, init='identity')
    assert not any(loaded_bases(net))
    report = load_pretrained(net, plain.state_dict())
    accounted(report, net, list(plain.state_dict()))
    assert all(loaded_bases(net)) and len(loaded_bases(net)) == SWAPPED
    assert report.reasons['conv1.weight'] == 'frozen basis'
    assert report.reasons['conv1.convmap.weight'] == 'refocusing map, starts as its init says'
    assert not report.folded and same(net, plain)


@pytest.mark.parametrize('target, stem', [(None, None), ('GMConv', 'static'),
                                          ('GMConv', 'dynamic')])
def test_refocused_kernel_goes_where_no_map_is(target, stem):
    source = resnet('RefConv')
    net = resnet(target, stem, seed=1)
    report = load_pretrained(net, source.state_dict())
    accounted(report, net, list(source.state_dict()))
    assert len([name for name in report.folded if name.endswith('convmap.weight')]) == SWAPPED
    assert report.reasons['conv1.weight'].startswith('refocused kernel of basis and map')
    assert same(net, source)


def test_refconv_takes_everything_over():
    source = resnet('RefConv')
    net = resnet('RefConv', seed=1)
    report = load_pretrained(net, source.state_dict())
    accounted(report, net, list(source.state_dict()))
    assert sorted(report.loaded) == sorted(source.state_dict()) and all(loaded_bases(net))
    assert same(net, source)


def test_masked_kernels_become_a_basis():
    source = resnet('GMConv', 'static')
    net = resnet('RefConv', seed=1, init='identity')
    report = load_pretrained(net, source.state_dict())
    accounted(report, net, list(source.state_dict()))
    assert all(loaded_bases(net)) and same(net, source)


@pytest.mark.slow
@pytest.mark.parametrize('target, stem', [(None, None), ('GMConv', 'static'), ('RefConv', True)])
def test_files_with_masks_on_refocused_kernels(target, stem):
    """Of GMRefConv, which is gone: map and mask are multiplied out."""
    state = with_masks(resnet('RefConv').state_dict())
    expected = resnet(seed=1)
    kernels = {name[:-len('.sigma')]: refocus(state[f'{name[:-6]}.weight'],
                                              state[f'{name[:-6]}.convmap.weight'])
               * gaussian_mask(state[f'{name[:-6]}.weight'].shape[2:], state[name])
               for name in state if name.endswith('.sigma')}
    assert len(kernels) == SWAPPED
    expected.load_state_dict({
        **{name: value for name, value in state.items() if name in expected.state_dict()},
        **{f'{name}.weight': kernel for name, kernel in kernels.items()}})
    net = resnet(target, stem, seed=1, **(dict(init='identity') if target == 'RefConv' else {}))
    report = load_pretrained(net, state)
    accounted(report, net, list(state))
    assert all(loaded_bases(net)) and same(net, expected)


def test_a_damaged_map_is_one_clear_error():
    state = resnet('RefConv').state_dict()
    state['conv1.convmap.weight'] = torch.ones(5, 1, 3, 3)
    with pytest.raises(CheckpointError, match=r'the RefConv conv1 is damaged: a basis \(8, 3, 7'):
        load_pretrained(resnet(), state)


@pytest.mark.slow
@pytest.mark.parametrize('to, names', [(None, SWAPPED), ('plain', 0), ('gm', 0)])
def test_published_backbones(to, names, tmp_path):
    source = resnet('RefConv')
    torch.save(dict(state_dict={f'backbone.{name}': value
                                for name, value in source.state_dict().items()}),
               tmp_path / 'detector.pth')
    published = convert_backbone(tmp_path / 'detector.pth', tmp_path / 'r18.pth', to=to)
    state = torch.load(published.path, weights_only=True)['state_dict']
    assert len([name for name in state if 'convmap' in name]) == names
    net = resnet(*{None: ('RefConv', ), 'plain': (None, ), 'gm': ('GMConv', 'dynamic')}[to], seed=1)
    load_pretrained(net, state)
    assert same(net, source, 1e-9 if to is None else 1e-5)  # published masked layers are fp32
