"""RefConv's configs: recipe, placement, and one training step on a loaded basis at small size."""
from __future__ import annotations

import copy
import functools
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from gmconv_mmdet import RefConv2d, fold_gmconv, load_pretrained
from gmconv_mmdet.conversion.swap import spatial_convs

from .test_gmconv import build, narrow

ROOT = Path(__file__).resolve().parents[2] / 'configs'
NETWORKS = {'resnet18': 17, 'resnet50': 17, 'mobilenet-v2': 18}  # convolutions larger than 1x1
COCO = sorted(path.stem for path in (ROOT / 'refconv').glob('*.py'))


@functools.lru_cache(maxsize=None)
def _load(name) -> Config:
    return Config.fromfile(ROOT / f'{name}.py')


def load(name) -> Config:
    return copy.deepcopy(_load(name))


def refocused(network):
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, RefConv2d)}


@pytest.mark.slow
@pytest.mark.parametrize('network', [
    'resnet18', *(pytest.param(name, marks=pytest.mark.nightly) for name in NETWORKS
                  if name != 'resnet18')])
def test_imagenet_recipes(network):
    """arXiv 2310.10563's schedule, the same for the plain network trained on."""
    pytest.importorskip('mmpretrain')
    plain, ref = (load(f'pretrain/{network}-{kind}_8xb64_in1k')
                  for kind in ('continued', 'refconv'))
    for cfg in (plain, ref):
        optimizer = cfg.optim_wrapper.optimizer
        assert (optimizer.type, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (
            'SGD', 0.1, 0.9, 4e-5)
        assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 512
        warm_up, cosine = cfg.param_scheduler
        assert (warm_up.type, warm_up.begin, warm_up.end) == ('LinearLR', 0, 5)
        assert (cosine.type, cosine.T_max, cosine.begin, cosine.end) == (
            'CosineAnnealingLR', 100, 5, 105)
        assert cfg.train_cfg.max_epochs == 105
        assert cfg.load_from.startswith(f'work_dirs/{network}_8xb32_in1k/epoch_')
    first = load(f'pretrain/{network}_8xb32_in1k')
    assert plain.load_from.endswith(f'/epoch_{first.train_cfg.max_epochs}.pth')
    assert plain.model.to_dict() == first.model.to_dict()
    init_default_scope('mmpretrain')
    plain, ref = (MODELS.build(cfg.model) for cfg in (plain, ref))
    assert not refocused(plain) and not spatial_convs(ref.backbone)
    assert len(refocused(ref)) == len(spatial_convs(plain.backbone)) == NETWORKS[network]
    assert {layer.convmap.init for layer in refocused(ref).values()} == {'paper'}
    missing = ref.load_state_dict(plain.state_dict(), strict=False)  # as load_from does
    assert not missing.unexpected_keys
    assert set(missing.missing_keys) == {f'{name}.convmap.weight' for name in refocused(ref)}
    assert all(layer.basis_loaded for layer in refocused(ref).values())


@pytest.mark.slow
@pytest.mark.parametrize('data', [
    'cifar10', pytest.param('cifar10-packed', marks=pytest.mark.nightly)])
def test_cifar_recipe(data):
    pytest.importorskip('mmpretrain')
    plain, ref = load(f'cifar/resnet20_{data}'), load(f'cifar/resnet20-refconv_{data}')
    assert ref.load_from == f'work_dirs/resnet20_{data}/epoch_{plain.train_cfg.max_epochs}.pth'
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg'):
        assert ref[key] == plain[key]
    assert len(refocused(MODELS.build(ref.model.backbone))) == 19


def test_basis_is_named_by_the_environment(monkeypatch):
    monkeypatch.setenv('REFCONV_BASIS', '/my weights/plain.pth')
    monkeypatch.setenv('REFCONV_DETECTOR', 'detector.pth')
    assert Config.fromfile(
        ROOT / 'cifar/resnet20-refconv_cifar10.py').load_from == '/my weights/plain.pth'
    assert Config.fromfile(ROOT / 'refconv/faster-rcnn_r50-refocused_fpn_1x_coco.py'
                           ).load_from == 'detector.pth'


@pytest.mark.slow
@pytest.mark.parametrize('name', COCO)
def test_detector(name):
    cfg, baseline = load(f'refconv/{name}'), load('gmconv/faster-rcnn_r50_fpn_1x_coco')
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'train_dataloader'):
        assert cfg[key] == baseline[key]
    further = 'refocused' in name or 'continued' in name
    assert cfg.load_from == ('work_dirs/faster-rcnn_r50_fpn_1x_coco/epoch_12.pth' if further
                             else None)
    plain = cfg.model.backbone.get('backbone', cfg.model.backbone)
    assert (plain.init_cfg is None) == further
    torch.manual_seed(0)
    stock = build(narrow(baseline))
    detector = build(narrow(cfg))
    layers = refocused(detector.backbone)
    if 'ref' not in name:
        assert not layers and cfg.model.backbone.type == 'ResNet'
        return
    assert set(layers) == {f'layer{stage}.{block}.conv2' for stage, blocks in
                           ((2, 4), (3, 6), (4, 3)) for block in range(blocks)}
    # exactly the plain detector at the start, and a plain detector at the end
    load_pretrained(detector.backbone, stock.backbone.state_dict())
    detector.train()
    x = torch.randn(1, 3, 64, 64)
    for found, expected in zip(detector.backbone(x), stock.train().backbone(x)):
        assert torch.equal(found, expected)
    sum(out.sum() for out in detector.backbone(x)).backward()
    assert all(layer.convmap.weight.grad is not None for layer in layers.values())
    assert detector.backbone.layer1[0].conv2.weight.grad is None  # frozen as in the baseline
    stock.load_state_dict(fold_gmconv(detector).state_dict())


def test_readme_and_metafile():
    text = (ROOT / 'refconv' / 'README.md').read_text()
    assert all(f'({name}.py)' in text for name in COCO)
    meta = yaml.safe_load((ROOT / 'refconv' / 'metafile.yml').read_text())
    # the plain one is configs/gmconv's
    assert [model['Name'] for model in meta['Models']] == [
        name for name in COCO if name != 'faster-rcnn_r50_fpn_1x_coco']
    for model in meta['Models']:
        assert model['Config'] == f'configs/refconv/{model["Name"]}.py'
        assert 'Results' not in model and 'Weights' not in model
    index = yaml.safe_load((ROOT.parent / 'model-index.yml').read_text())
    assert 'configs/refconv/metafile.yml' in index['Import']
