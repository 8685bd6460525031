"""RefConv in whole backbones and detectors: placement, training on a loaded basis, and what is left
after folding."""

import pytest
import torch
import torch.nn as nn
from mmdet.models.backbones import ResNet
from mmengine.registry import MODELS

from gmconv_mmdet import (
    GMBackbone,
    GMResNet,
    RefConv2d,
    RefConvBackbone,
    fold_gmconv,
    load_pretrained,
)
from gmconv_mmdet.conversion.swap import spatial_convs

SMALL = dict(base_channels=8, norm_eval=False, zero_init_residual=False)


def plain_resnet(depth=18, **kwargs):
    torch.manual_seed(0)
    return ResNet(depth, **{**SMALL, **kwargs})


def refocused_resnet(depth=18, source=None, stem=True, body=True, ref_cfg=None, init_cfg=None,
                     **kwargs):
    net = RefConvBackbone(dict(type='ResNet', depth=depth, **SMALL, **kwargs), stem=stem, body=body,
                          ref_cfg=ref_cfg, init_cfg=init_cfg)
    if source is not None:
        load_pretrained(net, source.state_dict())
    return net


def images(batch=2, size=64):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def train(net, steps=3):
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.01,
                                momentum=0.9, weight_decay=4e-5)
    net.train()
    for step in range(steps):
        optimizer.zero_grad()
        sum(out.square().mean() for out in net(images() + step)).backward()
        optimizer.step()
    return optimizer


def maps(net):
    return {name: layer.convmap.weight for name, layer in net.named_modules()
            if isinstance(layer, RefConv2d) and layer.convmap is not None}


def parameters(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize('init', ['paper', 'identity'])
@pytest.mark.parametrize('depth, options', [
    (18, {}), (50, {}),
    pytest.param(50, dict(deep_stem=True, avg_down=True), marks=pytest.mark.slow)])
def test_train_fold_and_load_strictly_into_mmdets_resnet(depth, options, init):
    plain = plain_resnet(depth, **options)
    net = refocused_resnet(depth, plain, ref_cfg=dict(init=init), **options)
    bases = {f'{name}.weight': net.get_submodule(name).weight.clone() for name in maps(net)}
    larger = [layer for layer in plain.modules() if isinstance(layer, nn.Conv2d)
              and layer.kernel_size != (1, 1)]
    # every 2-D slice has a map of 3x3, every kernel is frozen
    assert parameters(net) - parameters(plain) == sum(
        layer.in_channels * layer.out_channels * 9 - layer.weight.numel() for layer in larger)
    assert len(maps(net)) == len(larger)
    train(net)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in bases.items())
    net.eval()
    folded = fold_gmconv(net)
    assert not any(isinstance(module, RefConv2d) for module in folded.modules())
    assert parameters(folded) == parameters(plain)
    stock = plain_resnet(depth, **options)
    stock.load_state_dict(folded.state_dict(), strict=True)
    stock.eval()
    plain.eval()
    for found, expected, before in zip(stock(images()), net(images()), plain(images())):
        assert torch.equal(found, expected)
        assert not torch.allclose(found, before, rtol=1e-3)  # it did learn something


def test_unloaded_basis_raises_at_the_first_training_step():
    net = refocused_resnet()
    net.init_weights()
    net.eval()(images())
    with pytest.raises(RuntimeError, match='basis of a RefConv .* never loaded'):
        net.train()(images())
    load_pretrained(net, plain_resnet().state_dict())
    train(net, 1)


@pytest.mark.parametrize('kind', ['Pretrained', 'GMPretrained'])
def test_init_cfg_loads_the_basis(kind, tmp_path):
    plain = plain_resnet()
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    net = refocused_resnet(init_cfg=dict(type=kind, checkpoint=str(tmp_path / 'plain.pth')))
    net.init_weights()
    assert torch.equal(net.layer2[0].conv1.weight, plain.layer2[0].conv1.weight)
    train(net, 1)


def test_frozen_stages_freeze_maps_too():
    with pytest.raises(ValueError, match=r'^conv1: a frozen convolution can\'t be refocused with '
                                         r'init=\'paper\'.*frozen_stages=-1'):
        refocused_resnet(frozen_stages=1)
    plain = plain_resnet()
    net = refocused_resnet(source=plain, frozen_stages=1, ref_cfg=dict(init='identity'))
    for _ in range(2):
        learning = {name for name, weight in maps(net).items() if weight.requires_grad}
        assert learning == {name for name in maps(net)
                            if name.startswith(('layer2', 'layer3', 'layer4'))}
        train(net, 1)
    folded = fold_gmconv(net)
    assert torch.equal(folded.conv1.weight, plain.conv1.weight)
    assert not folded.conv1.weight.requires_grad and folded.layer2[0].conv1.weight.requires_grad
    # only in the stages that train: nothing to say against the authors' start
    refocused_resnet(frozen_stages=1, stem=False, body=['layer2', 'layer3', 'layer4'])


@pytest.mark.parametrize('options, error, message', [
    (dict(stem='dynamic'), ValueError, "stem must be True or False, got 'dynamic'"),
    (dict(body='layer1'), ValueError, "body must be True, False or names of modules, got 'layer1'"),
    (dict(body=None), ValueError, 'body must be True, False or names of modules, got None'),
    (dict(body=['layer9']), ValueError, "body: no convolution larger than 1x1 in 'layer9', but in"),
    (dict(gm_stem=True), TypeError, "RefConvBackbone has no argument 'gm_stem': write stem"),
    (dict(gm_cfg={}), TypeError, "RefConvBackbone has no argument 'gm_cfg': write ref_cfg"),
    (dict(kind='RefConv'), TypeError, "'kind': what the network takes belongs in backbone=dict"),
    (dict(ref_cfg=dict(trained=True)), TypeError, "ref_cfg has no argument 'trained': Its arg"),
    (dict(ref_cfg=dict(map_kernel_size=5)), ValueError,
     r'^layer1\.0\.conv1: map_kernel_size must not be larger'),
])
def test_refusals(options, error, message):
    with pytest.raises(error, match=message):
        RefConvBackbone(dict(type='ResNet', depth=18, **SMALL), **options)


def test_bad_backbones():
    for nested in (dict(type='GMResNet', depth=18), dict(type='RefConvBackbone', backbone=dict(
            type='ResNet', depth=18))):
        with pytest.raises(ValueError, match=f'but {nested["type"]} places its own: write '):
            RefConvBackbone(nested)
    with pytest.raises(ValueError, match='but RefConvBackbone places its own: write '):
        GMBackbone(nested)
    with pytest.raises(ValueError, match='init_cfg is given twice, for RefConvBackbone and'):
        RefConvBackbone(dict(type='ResNet', depth=18, init_cfg=[]), init_cfg=[])


@pytest.mark.parametrize('build', [
    lambda kind: GMResNet(18, kind=kind, gm_stem=True, gm_cfg=dict(init='identity')),
    lambda kind: GMBackbone(dict(type='ResNet', depth=18), kind=kind, gm_stem=True, gm_body=True)])
def test_the_old_spelling_says_the_new_one(build):
    for kind in ('GMConv', 'RefConv', 'GMRefConv'):
        with pytest.raises(TypeError, match=r"no argument 'kind': .*RefConv is placed by backbone="
                                            r"dict\(type='RefConvBackbone', backbone=dict\(type"):
            build(kind)


def test_beside_deformable_convolutions():
    dcn = dict(type='DCNv2', deform_groups=1, fallback_on_stride=False)
    options = dict(dcn=dcn, stage_with_dcn=(False, True, True, True))
    net = refocused_resnet(50, **options)
    assert list(maps(net)) == ['conv1', *(f'layer1.{i}.conv2' for i in range(3))]
    assert 'ModulatedDeform' in type(net.layer2[0].conv2).__name__ and dcn['type'] == 'DCNv2'
    with pytest.raises(ValueError, match="^body: no convolution larger than 1x1 in 'layer2', but"):
        refocused_resnet(50, body=['layer2'], **options)


@pytest.mark.parametrize('name, body', [
    ('MobileNetV2', True), pytest.param('MobileNetV2', ['layer2'], marks=pytest.mark.slow),
    pytest.param('ShuffleNetV2', True, marks=pytest.mark.slow)])
def test_any_backbone(name, body):
    pytest.importorskip('mmpretrain')
    cfg = dict(type=f'mmpretrain.{name}')
    cfg.update(dict(widen_factor=0.25) if name == 'MobileNetV2' else dict(widen_factor=0.5))
    torch.manual_seed(0)
    plain = MODELS.build(cfg)
    net = MODELS.build(dict(type='RefConvBackbone', body=body, backbone=cfg))
    refocused = {name: layer for name, layer in net.named_modules() if isinstance(layer, RefConv2d)}
    assert len(refocused) == (len(spatial_convs(plain)) if body is True else 3)
    assert any(layer.groups > 1 for layer in refocused.values())
    for layer in refocused.values():
        assert layer.convmap.weight.numel() == layer.in_channels * layer.out_channels * 9
    load_pretrained(net, plain.state_dict())
    train(net)
    folded = fold_gmconv(net.eval())
    plain.load_state_dict(folded.state_dict())
    plain.eval()
    assert parameters(folded) == parameters(plain)
    for found, expected in zip(plain(images()), net(images())):
        assert torch.equal(found, expected)
