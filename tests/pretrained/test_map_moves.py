"""RefConv's maps between checkpoints and networks: every tensor accounted for, outputs kept."""
import pytest
import torch
from mmdet.models.backbones import ResNet

from gmconv_mmdet import GMResNet, load_pretrained
from gmconv_mmdet.checkpoints import CheckpointError
from gmconv_mmdet.layers import RefocusedKernel
from gmconv_mmdet.pretrained.map_moves import multiply_out_maps
from gmconv_mmdet.pretrained.publish import convert_backbone

from .test_load import accounted

SMALL = dict(base_channels=8, zero_init_residual=False)
SWAPPED = 17  # convolutions larger than 1x1 in ResNet-18


def resnet(kind=None, stem=True, seed=0, **gm_cfg):
    torch.manual_seed(seed)
    if kind is None:
        net = ResNet(18, **SMALL)
    else:
        net = GMResNet(18, kind=kind, gm_stem=stem, gm_cfg=gm_cfg, **SMALL)
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
    return [layer.basis_loaded for layer in net.modules() if isinstance(layer, RefocusedKernel)]


@pytest.mark.parametrize('target, stem, gm_cfg', [
    ('RefConv', True, dict(init='identity')),
    ('GMRefConv', 'static', dict(init='identity')),
    ('GMRefConv', 'dynamic', dict(init='identity', init_sigma=3)),
])
def test_plain_weight_becomes_the_basis(target, stem, gm_cfg):
    plain = resnet()
    net = resnet(target, stem, seed=1, **gm_cfg)
    assert not any(loaded_bases(net))
    report = load_pretrained(net, plain.state_dict())
    accounted(report, net, list(plain.state_dict()))
    assert all(loaded_bases(net)) and len(loaded_bases(net)) == SWAPPED
    assert report.reasons['conv1.weight'] == 'frozen basis' + (
        ', divided by the initial mask' if target == 'GMRefConv' else '')
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


@pytest.mark.parametrize('kind, stem', [('RefConv', True), ('GMRefConv', 'static'),
                                        ('GMRefConv', 'dynamic')])
def test_the_same_kind_takes_everything_over(kind, stem):
    source = resnet(kind, stem)
    net = resnet(kind, stem, seed=1)
    report = load_pretrained(net, source.state_dict())
    accounted(report, net, list(source.state_dict()))
    assert sorted(report.loaded) == sorted(source.state_dict()) and all(loaded_bases(net))
    assert same(net, source)


@pytest.mark.parametrize('source, target', [
    (('GMRefConv', 'static'), (None, None)),
    (('GMRefConv', 'static'), ('GMConv', 'static')),
    (('GMRefConv', 'static'), ('RefConv', True)),
    (('RefConv', True), ('GMRefConv', 'static')),
    (('GMConv', 'static'), ('GMRefConv', 'static')),
    (('GMConv', 'static'), ('RefConv', True)),
])
def test_other_masks_on_refocused_kernels(source, target):
    """Where the masks differ the kernel moves, and the network's own map starts afresh."""
    source = resnet(*source)
    net = resnet(*target, seed=1, **(dict(init='identity') if 'Ref' in str(target[0]) else {}))
    report = load_pretrained(net, source.state_dict())
    accounted(report, net, list(source.state_dict()))
    assert all(loaded_bases(net)) and same(net, source)


def test_a_network_that_does_not_fit_stays_unloaded():
    net = resnet('RefConv')
    state = resnet().state_dict()
    state['layer4.1.conv2.weight'] = torch.ones(3, 3, 3, 3)
    with pytest.raises(CheckpointError, match='of another shape'):
        load_pretrained(net, state)
    assert not any(loaded_bases(net))


def test_a_damaged_map_is_one_clear_error():
    state = resnet('RefConv').state_dict()
    state['conv1.convmap.weight'] = torch.ones(5, 1, 3, 3)
    with pytest.raises(CheckpointError, match=r'the RefConv conv1 is damaged: a basis \(8, 3, 7'):
        load_pretrained(resnet(), state)


def test_multiply_out_maps_leaves_its_argument_alone():
    state = {'a.weight': torch.ones(2, 1, 3, 3, dtype=torch.float16),
             'a.convmap.weight': torch.zeros(2, 1, 3, 3), 'convmap.weight': torch.ones(2),
             'b.convmap.weight': torch.ones(2, 1, 3, 3)}
    before = dict(state)
    result, names = multiply_out_maps(state, ['b'])
    assert names == ['a'] and state == before
    assert set(result) == set(state) - {'a.convmap.weight'}
    assert torch.equal(result['a.weight'], torch.ones(2, 1, 3, 3))
    assert result['a.weight'].dtype == torch.float32
    assert multiply_out_maps(state, ['a']) == (state, [])


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
