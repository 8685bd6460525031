"""The configs of configs/gmconv against the paper's Tables III and V, built and run small."""
from __future__ import annotations

import copy
import functools
import os
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope

from gmconv_mmdet.lab.reproduce.paper import TABLE_V

FOLDER = Path(__file__).resolve().parents[2] / 'configs' / 'gmconv'
DETECTORS = {'faster-rcnn': 'FasterRCNN', 'cascade-rcnn': 'CascadeRCNN'}
CONVS_PER_STAGE = (3, 4, 6, 3)  # 3x3 convolutions of ResNet-50

# As DESIGN has them: row -> stem, stages with static GMConv, stages with DCN.
ROWS = {
    'r50': (None, (), ()),
    'r50-gm-stem-l1': ('dynamic', (1, ), ()),
    'r50-gm-stem-l1-l2': ('dynamic', (1, 2), ()),
    'r50-gm-stem-l1-l3': ('dynamic', (1, 2, 3), ()),
    'r50-gm-stem-l1-l4': ('dynamic', (1, 2, 3, 4), ()),
    'r50-dcn-l2-l4': (None, (), (2, 3, 4)),
    'r50-gm-stem-l1-dcn-l2-l4': ('dynamic', (1, ), (2, 3, 4)),
    'r50-sgm-stem-l1-l4': ('static', (1, 2, 3, 4), ()),  # ours
}
PAPER_ROWS = [f'{detector}_{row}' for detector in DETECTORS for row in ROWS if 'sgm' not in row]
# Beyond the paper: config -> detector, learning rate.
OTHERS = {'mask-rcnn_r50-gm-stem-l1_fpn_1x_coco': ('MaskRCNN', 0.02),
          'retinanet_r50-gm-stem-l1_fpn_1x_coco': ('RetinaNet', 0.01),
          'fcos_r50-gm-stem-l1_fpn_gn-head_1x_coco': ('FCOS', 0.01)}
ALL = [f'{detector}_{row}_fpn_1x_coco' for detector in DETECTORS for row in ROWS] + list(OTHERS)


@functools.lru_cache(maxsize=None)
def _load(name, weights) -> Config:
    return Config.fromfile(FOLDER / f'{name}.py')


def load(name) -> Config:
    return copy.deepcopy(_load(name, os.environ.get('GMCONV_PRETRAINED')))


def expected(name):
    """(detector class, stem, GM stages, DCN stages, learning rate) of a config."""
    detector, row = name.split('_')[:2]
    kind, lr = OTHERS.get(name, (DETECTORS.get(detector), 0.02))
    return kind, *ROWS[row], lr


def narrow(cfg: Config) -> Config:
    """A copy with an eighth of the width and tiny heads: placement stays."""
    cfg = copy.deepcopy(cfg)  # Config.copy() shares all but the outermost level
    backbone = cfg.model.backbone
    backbone.get('backbone', backbone).update(base_channels=8, init_cfg=None)
    cfg.model.neck.in_channels = [32, 64, 128, 256]

    def shrink(node):
        if isinstance(node, dict):
            if 'fc_out_channels' in node:
                node['fc_out_channels'] = 16
            for key in [key for key, value in node.items() if value == 256]:
                node[key] = 64  # channels of neck and heads; two for each of GroupNorm's groups
            node = list(node.values())
        if isinstance(node, (list, tuple)):
            for child in node:
                shrink(child)

    shrink(cfg.model)
    return cfg


def build(cfg: Config):
    init_default_scope('mmdet')
    return MODELS.build(cfg.model)


def kinds(backbone) -> dict[str, Counter]:
    """Stem and stages -> class names of their convolutions with kernels larger than 1x1, a GMConv
    with its kind."""
    found = {}
    for name, module in backbone.named_modules():
        # 1x1 convolutions are the same everywhere; `conv_offset` is part of a deformable one.
        if getattr(module, 'kernel_size', (1, 1)) in (1, (1, 1)) or 'conv_offset' in name:
            continue
        kind = type(module).__name__
        if kind == 'MaxPool2d':
            continue
        if kind == 'GMConv2d':
            kind = 'dynamic' if module.sigma is None else 'static'
        part = name.split('.')[0] if name.startswith('layer') else 'stem'
        found.setdefault(part, Counter())[kind] += 1
    return found


def test_folder_holds_exactly_these_configs():
    assert sorted(path.stem for path in FOLDER.glob('*.py')) == sorted(ALL)
    assert len(PAPER_ROWS) == 14


@pytest.mark.slow
@pytest.mark.parametrize('name', ALL)
def test_recipe(name):
    cfg, (kind, *_, lr) = load(name), expected(name)
    assert cfg.model.type == kind and cfg.model.backbone.depth == 50
    assert cfg.model.backbone.style == 'pytorch' and cfg.model.backbone.frozen_stages == 1
    assert cfg.train_dataloader.batch_size == 2 and cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_cfg.max_epochs == 12
    steps, = (s for s in cfg.param_scheduler if s.type == 'MultiStepLR')
    assert steps.milestones == [8, 11] and steps.gamma == 0.1 and steps.by_epoch
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (
        'SGD', lr, 0.9, 1e-4)
    assert cfg.train_dataloader.dataset.ann_file == 'annotations/instances_train2017.json'
    assert cfg.test_evaluator.type == 'CocoMetric'
    preprocessor = cfg.model.data_preprocessor  # as torchvision's weights want their images
    assert preprocessor.bgr_to_rgb and preprocessor.mean == [123.675, 116.28, 103.53]
    assert preprocessor.std == [58.395, 57.12, 57.375]


@pytest.mark.parametrize('name', [ALL[1], *OTHERS])
def test_a_resume_is_exact(name):
    """ExactResumeHook needs a fixed seed; another one can be given."""
    cfg = load(name)
    assert 'ExactResumeHook' in [hook.type for hook in cfg.custom_hooks]
    assert cfg.randomness == dict(seed=0)
    cfg.merge_from_dict({'randomness.seed': 3, 'randomness.deterministic': True})
    assert cfg.randomness == dict(seed=3, deterministic=True)


@pytest.mark.parametrize('name', [ALL[1], *OTHERS])
def test_weights_come_from_one_place(name, monkeypatch):
    monkeypatch.delenv('GMCONV_PRETRAINED', raising=False)
    cfg = load(name)
    assert cfg.model.backbone.init_cfg == dict(type='GMPretrained',
                                               checkpoint='torchvision://resnet50')
    cfg.merge_from_dict({'model.backbone.init_cfg.checkpoint': 'other.pth'})  # --cfg-options
    assert cfg.model.backbone.init_cfg.checkpoint == 'other.pth'
    monkeypatch.setenv('GMCONV_PRETRAINED', '/my weights/gm.pth')
    assert load(name).model.backbone.init_cfg.checkpoint == '/my weights/gm.pth'


# Each placement, and each other detector.
QUICK = [name for name in ALL if not name.startswith('cascade') or 'gm-stem-l1_' in name]


@pytest.mark.slow
@pytest.mark.parametrize('name', [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.nightly) for name in ALL])
def test_builds_as_its_row_says_and_trains(name, tmp_path):
    cfg, (_, stem, gm_stages, dcn_stages, _) = load(name), expected(name)
    copy = tmp_path / 'work dir' / 'config.py'
    copy.parent.mkdir()
    cfg.dump(str(copy))
    cfg, original = Config.fromfile(copy), cfg
    assert cfg.to_dict() == original.to_dict()

    torch.manual_seed(0)
    model = build(narrow(cfg))
    wanted = {'stem': Counter({stem or 'Conv2d': 1})}
    for i, convs in enumerate(CONVS_PER_STAGE, 1):
        kind = ('static' if i in gm_stages else
                'DeformConv2dPack' if i in dcn_stages else 'Conv2d')
        wanted[f'layer{i}'] = Counter({kind: convs})
    assert kinds(model.backbone) == wanted

    model.init_weights()
    model.train()
    data = model.data_preprocessor(
        demo_mm_inputs(1, [[3, 128, 128]], num_items=[3], with_mask='mask-rcnn' in name), True)
    losses, _ = model.parse_losses(model(**data, mode='loss'))
    losses.backward()
    assert torch.isfinite(losses)
    masks = [p for name, p in model.backbone.named_parameters() if 'sigma' in name]
    # With frozen_stages=1 and weights without masks, the masks of stem and L1 have to learn.
    assert all(p.requires_grad and p.grad is not None for p in masks)
    sigmas = sum(CONVS_PER_STAGE[i - 1] for i in gm_stages)
    assert len(masks) == sigmas + {'dynamic': 3, 'static': 1, None: 0}[stem]
    assert not model.backbone.conv1.weight.requires_grad


@pytest.mark.parametrize('option, learn', [(None, True), ('True', False), ('False', True)])
def test_frozen_masks_learn_unless_told_otherwise(option, learn):
    cfg = load('faster-rcnn_r50-gm-stem-l1_fpn_1x_coco')
    if option:  # --cfg-options model.backbone.freeze_masks=True
        cfg.merge_from_dict({'model.backbone.freeze_masks': DictAction._parse_iterable(option)})
    backbone = build(narrow(cfg)).backbone
    backbone.train()
    masks = [p for n, p in backbone.named_parameters()
             if 'sigma' in n and n.startswith(('conv1', 'layer1'))]
    assert len(masks) == 6 and all(p.requires_grad is learn for p in masks)


def test_readme_prints_the_papers_numbers():
    lines = (FOLDER / 'README.md').read_text().splitlines()
    for result in TABLE_V:
        config = f'{result.detector}_{result.backbone}_fpn_1x_coco.py'
        line, = (line for line in lines if line.startswith('|') and f'({config})' in line)
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        assert cells[1:5] == [f'{value:.1f}' for value in result.ap.values()]
        assert cells[5:9] == [''] * 4, 'measured columns stay empty until measured'
    text = '\n'.join(lines)
    assert all(f'({name}.py)' in text for name in ALL)


def test_metafile_lists_every_config_and_claims_nothing():
    meta = yaml.safe_load((FOLDER / 'metafile.yml').read_text())
    assert [model['Name'] for model in meta['Models']] == sorted(ALL)
    for model in meta['Models']:
        assert model['Config'] == f'configs/gmconv/{model["Name"]}.py'
        assert model['In Collection'] == meta['Collections'][0]['Name']
        assert 'Results' not in model and 'Weights' not in model
    assert re.search(r'2302\.04544', meta['Collections'][0]['Paper']['URL'])
