"""GMBackbone around mmpretrain's and mmdet's networks: placement, outputs, freezing,
initialisation."""
import copy
import pickle

import pytest
import torch
import torch.nn as nn
from mmdet.models.backbones import ResNeXt
from mmengine.registry import MODELS

from gmconv_mmdet import GMConv2d, load_pretrained
from gmconv_mmdet.backbones import GMBackbone

HRNET = dict(
    stage1=dict(num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(1, ),
                num_channels=(8, )),
    stage2=dict(num_modules=1, num_branches=2, block='BASIC', num_blocks=(1, 1),
                num_channels=(8, 16)),
    stage3=dict(num_modules=1, num_branches=3, block='BASIC', num_blocks=(1, ) * 3,
                num_channels=(8, 16, 32)),
    stage4=dict(num_modules=1, num_branches=4, block='BASIC', num_blocks=(1, ) * 4,
                num_channels=(8, 16, 32, 64)))
# config -> name of the stem, number of convolutions larger than 1x1
NETWORKS = {
    'AlexNet': (dict(type='mmpretrain.AlexNet'), 'features.0', 5),
    'MobileNetV2': (dict(type='mmpretrain.MobileNetV2', widen_factor=0.25), 'conv1.conv', 18),
    'ResNet_CIFAR': (dict(type='mmpretrain.ResNet_CIFAR', depth=18, base_channels=8,
                          stem_channels=8), 'conv1', 17),
    'CifarResNet': (dict(type='CifarResNet', depth=20), 'conv1', 19),
    'ResNeXt': (dict(type='mmdet.ResNeXt', depth=50, groups=4, base_width=8, base_channels=8),
                'conv1', 17),
    'RegNet': (dict(type='mmdet.RegNet', arch='regnetx_400mf'), 'conv1', 23),
    'HRNet': (dict(type='mmdet.HRNet', extra=HRNET), 'conv1', None),
}


def config(name):
    found = NETWORKS[name][0]
    if found['type'].startswith('mmpretrain.'):
        pytest.importorskip('mmpretrain')
    return copy.deepcopy(found)


def masked(network, kind=None):
    return [name for name, layer in network.named_modules() if isinstance(layer, GMConv2d)
            and (kind is None or layer.dynamic == (kind == 'dynamic'))]


@pytest.mark.slow
@pytest.mark.parametrize('name', NETWORKS)
def test_placement_keys_and_outputs(name):
    cfg, (_, stem, count) = config(name), NETWORKS[name]
    torch.manual_seed(0)
    plain = MODELS.build(cfg)
    plain.double().eval()
    network = MODELS.build(dict(type='GMBackbone', backbone=cfg))
    assert cfg == NETWORKS[name][0]  # the config is as it was
    assert isinstance(network, type(plain)) and network.eval() is network
    assert masked(network, 'dynamic') == [stem]
    larger = [n for n, m in plain.named_modules()
              if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    assert sorted(masked(network)) == sorted(larger) and count in (None, len(larger))
    report = load_pretrained(network.double(), plain.state_dict())
    assert set(plain.state_dict()) == set(report.loaded)
    x = torch.randn(2, 3, 96, 64, dtype=torch.float64)
    for a, b in zip(network(x), plain(x)):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-10 * float(b.abs().max()))
    drop_in = dict(cfg, type='GMBackbone', base=cfg['type'])
    given = copy.deepcopy(drop_in)
    beside = MODELS.build(drop_in)  # the arguments where they were
    assert drop_in == given and type(beside) is type(network)
    assert masked(beside) == masked(network) and list(beside.state_dict()) == list(network.state_dict())
    back = MODELS.build(dict(type='GMBackbone', backbone=cfg, gm_stem=None, gm_body=None)).double()
    assert set(back.state_dict()) == set(plain.state_dict())
    load_pretrained(back.eval(), network.state_dict())
    for a, b in zip(back(x), plain(x)):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-10 * float(b.abs().max()))


def test_body_by_names():
    network = GMBackbone(config('ResNeXt'), gm_body=['layer1', 'layer3.2'])
    assert set(masked(network, 'static')) == {
        *(f'layer1.{i}.conv2' for i in range(3)), 'layer3.2.conv2'}
    static = GMBackbone(config('ResNeXt'), gm_stem='static', gm_body=True,
                        gm_cfg=dict(init_sigma=3))
    assert not masked(static, 'dynamic') and static.conv1.init_sigma == 3
    assert masked(GMBackbone(config('ResNeXt'), gm_body=False)) == ['conv1']


def test_drop_in_passes_everything_on(tmp_path):
    cfg = config('ResNeXt')
    plain = MODELS.build(cfg)
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    cfg.update(type='GMBackbone', base='mmdet.ResNeXt', frozen_stages=1, gm_stem='static',
               gm_body=['layer2'], gm_cfg=dict(init_sigma=3), freeze_masks=True,
               init_cfg=dict(type='GMPretrained', checkpoint=str(tmp_path / 'plain.pth')))
    network = MODELS.build(cfg)
    network.init_weights()
    assert masked(network, 'static')[0] == 'conv1' and network.conv1.init_sigma == 3
    assert {name.split('.')[0] for name in masked(network)} == {'conv1', 'layer2'}
    assert not network.conv1.sigma.requires_grad and network.frozen_stages == 1
    x = torch.randn(1, 3, 64, 64)
    plain.eval()  # returns None
    for a, b in zip(network.eval()(x), plain(x)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    # A class as base, as lazily imported configs have it; init_cfg=None is the backbone's own, too.
    cfg.update(type=GMBackbone, base=ResNeXt, init_cfg=None)
    assert isinstance(MODELS.build(cfg), ResNeXt)


@pytest.mark.slow
def test_copies_pickles_and_traces():
    torch.manual_seed(0)
    network = GMBackbone(config('ResNeXt'), freeze_masks=False).eval()
    x = torch.randn(1, 3, 64, 64)
    expected = network(x)[-1]
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert type(other) is type(network) and type(other).__name__ == 'GMResNeXt'
        assert torch.equal(other(x)[-1], expected)
        other.conv1.weight.data.zero_()
    assert torch.equal(network(x)[-1], expected)
    assert torch.allclose(torch.jit.trace(network, x)(x)[-1], expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['ResNeXt', 'MobileNetV2', 'AlexNet', 'HRNet'])
def test_loading_comes_after_all_other_initialisation(name, tmp_path):
    torch.manual_seed(0)
    trained = GMBackbone(config(name))
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.uniform_(0.5, 1)
    torch.save(trained.state_dict(), tmp_path / 'gm.pth')
    entry = dict(type='GMPretrained', checkpoint=str(tmp_path / 'gm.pth'))
    # mmdet gives its blocks init configs of their own where the backbone has none
    network = GMBackbone(config(name), init_cfg=[entry, dict(type='Kaiming', layer='Conv2d')])
    network.init_weights()
    for key, tensor in trained.state_dict().items():
        assert torch.equal(network.state_dict()[key], tensor), key


class NoBaseModule(nn.Module):
    pass


@pytest.mark.parametrize('options, error, says', [
    (dict(gm_stem='both'), ValueError, "gm_stem must be one of .*got 'both'"),
    (dict(gm_body='dynamic'), ValueError, "gm_body must be one of .*got 'dynamic'"),
    (dict(gm_body=['layer9']), ValueError, "larger than 1x1 in 'layer9', but in layer1, layer2"),
    (dict(gm_cfg=dict(dynamic=True)), ValueError, 'gm_cfg must not hold "dynamic"'),
    (dict(freeze_masks='auto'), ValueError, 'freeze_masks must be True or False'),
    (dict(gm_bodi=True), TypeError, "GMBackbone has no argument 'gm_bodi': write gm_body"),
    (dict(gm_stages=(True, )), TypeError, r"'gm_stages': .*gm_body=\['layer1'\]"),
    (dict(depth=50), TypeError, r"'depth': what the network takes belongs in backbone=dict\(type="),
    (dict(base='ResNeXt'), ValueError, "one of the two, got both, base='ResNeXt' and backbone="),
])
def test_bad_arguments(options, error, says):
    with pytest.raises(error, match=says):
        GMBackbone(config('ResNeXt'), **options)


@pytest.mark.parametrize('arguments, error, says', [
    ({}, ValueError, 'one of the two, got neither'),
    (dict(base='ResNeXt', gm_bodi=True), TypeError, "GMBackbone has no argument 'gm_bodi': write gm_body"),
    (dict(base='ResNeXt', gm_stages=(True, )), TypeError, r"gm_body=\['layer1'\]"),
    (dict(base='ResNeXt', depths=50), TypeError, "unexpected keyword argument 'depths'"),
    (dict(base='GMResNet', depth=18), ValueError, 'but GMResNet places its own'),
])
def test_bad_drop_ins(arguments, error, says):
    with pytest.raises(error, match=says):
        GMBackbone(**arguments)


def test_bad_backbones():
    with pytest.raises(TypeError, match='derived from mmengine.model.BaseModule, not NoBaseModule'):
        GMBackbone(dict(type=NoBaseModule))
    for nested in (dict(type='mmdet.GMResNet', depth=18),
                   dict(type='GMBackbone', backbone=config('ResNeXt'))):
        with pytest.raises(ValueError, match=f'but {nested["type"]} places its own: write '):
            GMBackbone(nested)
    with pytest.raises(ValueError, match='init_cfg is given twice'):
        GMBackbone(dict(config('ResNeXt'), init_cfg=dict(type='Kaiming')),
                   init_cfg=dict(type='Kaiming'))
