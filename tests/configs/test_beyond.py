"""configs/beyond: built, function kept, optimizer, one training step and evaluation on COCO128."""
from __future__ import annotations

import copy
import functools
from pathlib import Path

import pytest
import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, load_checkpoint

from gmconv_mmdet import fold_gmconv
from gmconv_mmdet.layers.find_layers import gm_layers
from gmconv_mmdet.openmmlab.config_file import without_weights

from ..networks import on_one_process

FOLDER = Path(__file__).resolve().parents[2] / 'configs' / 'beyond'
# config -> the plain one, number of static masks, the stem
CONFIGS = {
    'rtmdet_tiny-gm_8xb32-300e_coco': ('rtmdet/rtmdet_tiny_8xb32-300e_coco', 14, 'stem.0.conv'),
    'yolox_tiny-gm_8xb8-300e_coco': ('yolox/yolox_tiny_8xb8-300e_coco', 12, 'stem.conv.conv'),
    'dino-4scale_r50-gm-stem-l1_8xb2-12e_coco': ('dino/dino-4scale_r50_8xb2-12e_coco', 3, 'conv1'),
}


@functools.lru_cache(maxsize=None)
def _load(name) -> Config:
    return Config.fromfile(FOLDER / f'{name}.py')


def load(name) -> Config:
    return copy.deepcopy(_load(name))


def build(cfg: Config):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    return MODELS.build(without_weights(on_one_process(cfg.model)))


@pytest.fixture(scope='module', autouse=True)
def modules():
    register_all_modules()


@pytest.mark.slow
@pytest.mark.parametrize('name', CONFIGS)
def test_masks_and_recipe(name):
    plain, static, stem = CONFIGS[name]
    cfg, base = load(name), Config.fromfile(f'{_mmdet_configs()}/{plain}.py')
    assert cfg.train_cfg.max_epochs == base.train_cfg.max_epochs
    assert cfg.optim_wrapper.optimizer.lr == base.optim_wrapper.optimizer.lr
    hooks = [hook.type for hook in cfg.custom_hooks]
    assert {'SigmaLogHook', 'SafeCheckpoints', *(hook.type for hook in base.get('custom_hooks', []))
            } <= set(hooks)
    detector = build(cfg)
    masks = gm_layers(detector)
    assert [layer for layer, module in masks.items() if module.dynamic] == [f'backbone.{stem}']
    assert len(masks) == 1 + static
    scale = masks[f'backbone.{stem}'].sigma_predictor.input_scale
    assert scale == (60 if 'yolox' in name else 1)
    if 'rtmdet' in name:
        depthwise = [module for module in masks.values() if module.groups == module.in_channels]
        assert depthwise and all(module.kernel_size == (5, 5) for module in depthwise)


@pytest.mark.parametrize('name', CONFIGS)
def test_the_optimizer_spares_the_masks(name):
    cfg = load(name)
    detector = build(cfg)
    wrapper = build_optim_wrapper(detector, cfg.optim_wrapper)
    of_masks = {id(parameter): name for name, parameter in detector.named_parameters()
                if 'sigma' in name}
    groups = {of_masks[id(group['params'][0])]: (group['lr'], group['weight_decay'])
              for group in wrapper.optimizer.param_groups if id(group['params'][0]) in of_masks}
    assert set(groups) == set(of_masks.values())
    assert set(groups.values()) == {(cfg.optim_wrapper.optimizer.lr, 0)}


@pytest.mark.slow
@pytest.mark.parametrize('name', CONFIGS)
def test_fine_tuning_from_the_plain_detector(name, tmp_path):
    """load_from a plain detector of 80 classes, 3 wanted: features equal, heads named in the log."""
    plain = build(Config.fromfile(f'{_mmdet_configs()}/{CONFIGS[name][0]}.py'))
    plain.init_weights()
    image = torch.randn(2, 3, 96, 128)
    if 'yolox' in name:
        image = (image * 60 + 114).clamp(0, 255)
    with torch.no_grad():
        for _ in range(3):
            plain.train().backbone(image)
        plain.eval()
    torch.save(dict(state_dict=plain.state_dict(), meta={}), tmp_path / 'plain.pth')
    cfg = load(name)
    cfg.model.bbox_head.num_classes = 3
    detector = build(cfg)
    detector.init_weights()
    logger = MMLogger.get_instance(name, log_file=str(tmp_path / 'log'))
    load_checkpoint(detector, str(tmp_path / 'plain.pth'), map_location='cpu', logger=logger)
    log = (tmp_path / 'log').read_text()
    named = {line.split()[3].rstrip(':') for line in log.splitlines() if 'size mismatch' in line}
    own, theirs = detector.state_dict(), plain.state_dict()
    assert named == {key for key in theirs if key in own and own[key].shape != theirs[key].shape}
    assert named and all(key.startswith(('bbox_head.', 'dn_query_generator.')) for key in named)
    assert 'missing keys' not in log and 'unexpected key' not in log
    with torch.no_grad():
        for ours, reference in zip(detector.eval().extract_feat(image), plain.extract_feat(image)):
            assert 0 < (ours - reference).abs().max() <= 1e-4 * reference.abs().max()
    folded = fold_gmconv(detector)
    assert [layer.dynamic for layer in gm_layers(folded).values()] == [True]


@pytest.mark.slow
@pytest.mark.parametrize('name', CONFIGS)
def test_trains_a_step_and_evaluates(name, tmp_path, shared_data):
    cfg = load(name)
    data_root = f'{shared_data / "coco128"}/'
    resize = [dict(type='Resize', scale=(128, 128), keep_ratio=True),
              dict(type='Pad', size=(128, 128))]
    image, boxes = dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)
    keys = ('img_id', 'ori_shape', 'img_shape', 'scale_factor')
    data = dict(type='CocoDataset', data_root=data_root, data_prefix=dict(img='images/'))
    loader = dict(batch_size=2, num_workers=0)
    cfg.train_dataloader = dict(
        sampler=dict(type='DefaultSampler', shuffle=True), **loader,
        dataset=dict(type='MultiImageMixDataset',  # YOLOX's hook wants to switch its mosaics off
                     pipeline=[*resize, dict(type='PackDetInputs')],
                     dataset=dict(ann_file='annotations/instances_train.json', indices=2,
                                  pipeline=[image, boxes], **data)))
    cfg.val_dataloader = cfg.test_dataloader = dict(
        sampler=dict(type='DefaultSampler', shuffle=False), **loader,
        dataset=dict(ann_file='annotations/instances_val.json', indices=4, test_mode=True,
                     pipeline=[image, *resize, boxes, dict(type='PackDetInputs', meta_keys=keys)],
                     **data))
    cfg.val_evaluator = cfg.test_evaluator = dict(
        type='CocoMetric', ann_file=f'{data_root}annotations/instances_val.json', metric='bbox')
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
    cfg.param_scheduler = []
    cfg.model = without_weights(cfg.model)
    if cfg.model['type'] == 'DINO':
        cfg.model['num_queries'] = 100  # so small an image has no 900 places to choose from
        cfg.model['backbone']['zero_init_residual'] = False  # else L1 has no gradients at the start
    cfg.work_dir, cfg.experiment_name = str(tmp_path), name
    runner = Runner.from_cfg(cfg)
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    metrics = runner.train() and runner.val_loop.run()
    assert 0 <= metrics['coco/bbox_mAP'] <= 1
    after = runner.model.state_dict()
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    assert any(key.endswith('.sigma') for key in changed)
    assert any('sigma_predictor' in key for key in changed)
    assert list(tmp_path.glob('*.pth'))


def _mmdet_configs() -> Path:
    import mmdet
    return Path(mmdet.__file__).parent / '.mim' / 'configs'
