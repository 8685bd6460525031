"""From a plain detector of 80 classes to a GM detector of 3, through mmdet's own tools."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mmdet
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from gmconv_mmdet.checkpoints import read_checkpoint

MMDET = Path(mmdet.__file__).parent / '.mim'
GM_CONFIG = 'configs/fine_tune/faster-rcnn_r50-gm-stem-l1_fpn_3-classes.py'
HEADS = [f'roi_head.bbox_head.{layer}.{kind}' for layer in ('fc_cls', 'fc_reg')
         for kind in ('weight', 'bias')]

# The two ways of docs/fine_tune.md; the shipped config takes the second.
WAYS = {
    'load_from': """
load_from = {zoo!r}
model = dict(init_cfg=None, backbone=dict(init_cfg=None))
""",
    'GMPretrained': """
model = dict(init_cfg=dict(checkpoint={zoo!r}))
""",
}
CONFIG = """
_base_ = 'dataset.py'
{way}
custom_imports = dict(imports=['gmconv_mmdet', 'save_features'])
custom_hooks = [*_base_.custom_hooks, dict(type='SaveFeatures')]
"""
DATASET = """
_base_ = {base!r}
data_root = {data_root!r}
model = dict(test_cfg=dict(rpn=dict(max_per_img=20), rcnn=dict(score_thr=0.0, max_per_img=5)))
resize = dict(type='Resize', scale=(96, 64), keep_ratio=True)
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
                  resize, dict(type='PackDetInputs')]
test_pipeline = [dict(type='LoadImageFromFile'), resize,
                 dict(type='LoadAnnotations', with_bbox=True),
                 dict(type='PackDetInputs', meta_keys=('img_id', 'ori_shape', 'img_shape',
                                                       'scale_factor'))]
loader = dict(batch_size=2, num_workers=0, persistent_workers=False)
data = dict(data_root=data_root, data_prefix=dict(img='images/'))
train_dataloader = dict(**loader, dataset=dict(
    **data, ann_file='annotations/instances_train.json', pipeline=train_pipeline))
val_dataloader = dict(**loader, dataset=dict(
    **data, ann_file='annotations/instances_val.json', pipeline=test_pipeline, indices=8))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=2, val_interval=2)
param_scheduler = []
optim_wrapper = dict(optimizer=dict(lr=1e-3))
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2), logger=dict(interval=1))
log_processor = dict(by_epoch=False)
"""
SAVE_FEATURES = """
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class SaveFeatures(Hook):
    def before_train(self, runner):
        with torch.no_grad():
            features = runner.model.eval().extract_feat(torch.load('image.pth'))
        torch.save(features, runner.work_dir + '/features.pth')
        runner.model.train()
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory, shared_data, repo):
    """zoo.pth, laid out as mmdet's model zoo has its Faster R-CNN; features.pth, what it computes."""
    register_all_modules()
    folder = tmp_path_factory.mktemp('fine tuning')
    coco = json.loads((shared_data / 'coco128/annotations/instances_all.json').read_text())
    names = tuple(category['name'] for category in coco['categories'])
    cfg = Config.fromfile(MMDET / 'configs/faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py')
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    with torch.no_grad():
        for name, tensor in model.backbone.named_parameters():
            if name.endswith('bn3.weight'):  # mmdet starts them at zero: no gradient for what is before
                tensor.fill_(0.5)
        for _ in range(20):  # batch norms that fit the weights, as training leaves them
            model.train().backbone(torch.randn(2, 3, 64, 96))
        model.eval()
        image = torch.randn(1, 3, 64, 96)
        torch.save(model.extract_feat(image), folder / 'features.pth')
    torch.save(image, folder / 'image.pth')
    torch.save(dict(meta=dict(epoch=12, iter=87960, cfg=cfg.pretty_text,
                              dataset_meta=dict(classes=names)),
                    state_dict=model.state_dict()), folder / 'zoo.pth')
    (folder / 'dataset.py').write_text(DATASET.format(
        base=str(repo / GM_CONFIG), data_root=f'{shared_data / "coco128"}/'))
    (folder / 'save_features.py').write_text(SAVE_FEATURES)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('way', WAYS)
def test_three_classes_from_the_zoos_eighty(folder, way):
    config = folder / f'{way}.py'
    config.write_text(CONFIG.format(way=WAYS[way].format(zoo=str(folder / 'zoo.pth'))))
    work_dir = folder / way
    paths = [str(folder), *filter(None, [os.environ.get('PYTHONPATH')])]
    run = subprocess.run(
        [sys.executable, '-W', 'ignore', MMDET / 'tools/train.py', config, '--work-dir', work_dir],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(paths)}, cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900)
    assert run.returncode == 0, run.stdout[-4000:]

    for ours, plain in zip(*(torch.load(place / 'features.pth') for place in (work_dir, folder))):
        assert 0 < (ours - plain).abs().max() <= 1e-4 * plain.abs().max()
    if way == 'load_from':
        assert '4 of 4 GMConv layers take plain weights' in run.stdout
        named = [line.split()[3].rstrip(':') for line in run.stdout.splitlines()
                 if line.startswith('size mismatch for')]
        assert 'missing keys' not in run.stdout and 'unexpected key' not in run.stdout
    else:
        named = run.stdout.split('start anew: ')[1].splitlines()[0].split(', ')
        assert 'random weights' not in run.stdout
    assert sorted(named) == sorted(HEADS)
    assert 'coco/bbox_mAP:' in run.stdout

    checkpoint = read_checkpoint(work_dir / 'iter_2.pth')
    state, plain = checkpoint['state_dict'], read_checkpoint(folder / 'zoo.pth')['state_dict']
    assert len(checkpoint['meta']['dataset_meta']['classes']) == 3
    assert state[HEADS[0]].shape == (4, 1024)
    assert set(state) - set(plain) == {
        *(f'backbone.layer1.{block}.conv2.sigma' for block in range(3)),
        *(f'backbone.conv1.sigma_predictor.{name}' for name in ('w0', 'w1', 'b1'))}
    # Frozen stages: weights stay, masks get gradients; without weight decay, at their own rate.
    assert torch.equal(state['backbone.bn1.weight'], plain['backbone.bn1.weight'])
    masks = [group for group in checkpoint['optimizer']['param_groups'] if not group['weight_decay']]
    assert [group['lr'] for group in masks] == [pytest.approx(0.01)] * 6
    momentum = checkpoint['optimizer']['state']
    assert sum(bool(momentum[group['params'][0]]['momentum_buffer'].any()) for group in masks) == 6


def of_sigmas(cfg: Config, **keys) -> set[tuple[float, float]]:
    """(factor on the learning rate, factor on weight decay) of the parameters of masks."""
    init_default_scope('mmdet')
    for key, value in keys.items():
        cfg.merge_from_dict({f'optim_wrapper.paramwise_cfg.custom_keys.{key}': value})
    model = MODELS.build(cfg.model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    stock = cfg.optim_wrapper.optimizer
    return {(round(group['lr'] / stock.lr, 6), round(group['weight_decay'] / stock.weight_decay, 6))
            for group in wrapper.optimizer.param_groups
            for parameter in group['params'] if 'sigma' in names[id(parameter)]}


@pytest.mark.slow
def test_options_for_masks(repo):
    """docs/fine_tune.md: as --cfg-options gives them; of the keys that match the longest wins."""
    def load():
        return Config.fromfile(repo / 'configs/deeppcb/faster-rcnn_r18-half-gm_fpn_deeppcb.py')

    masks = dict(lr_mult=10, decay_mult=0)
    assert of_sigmas(load(), **{'sigma.decay_mult': 0}) == {(1, 0)}
    assert of_sigmas(load(), sigma=masks) == {(10, 0)}
    assert of_sigmas(load(), sigma=masks, backbone=dict(lr_mult=0.1)) == {(0.1, 1)}
    transformer = load()
    transformer.optim_wrapper.paramwise_cfg = dict(custom_keys={
        'backbone': dict(lr_mult=0.1), 'conv1.sigma': masks, 'conv2.sigma': masks})
    assert of_sigmas(transformer) == {(10, 0)}
