"""Advice on real configs, and the configs that it writes."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from gmconv_mmdet.openmmlab.configured_network import build_extractor
from gmconv_mmdet.receptive_field.advice.changes import Change
from gmconv_mmdet.receptive_field.advice.config_changes import advise_config, changed_backbone
from gmconv_mmdet.receptive_field.advice.output_strides import changed_strides
from gmconv_mmdet.receptive_field.advice.written_config import write_config
from gmconv_mmdet.receptive_field.analyze import analyze

DETECTOR = """
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'
default_scope = 'mmdet'
custom_imports = dict(imports=['gmconv_mmdet.layers'], allow_failed_imports=False)
model = dict(backbone=dict(depth=18, base_channels=8, init_cfg=None),
             neck=dict(in_channels=[8, 16, 32, 64], out_channels=8),
             rpn_head=dict(in_channels=8, feat_channels=8), roi_head=dict(
                 bbox_roi_extractor=dict(out_channels=8),
                 bbox_head=dict(in_channels=8, fc_out_channels=8)))
"""


@pytest.fixture(scope='module')
def advised(tmp_path_factory):
    """A config file, its content, and the advice for 32 pixels by the names of the changes."""
    path = tmp_path_factory.mktemp('advised') / 'detector.py'
    path.write_text(DETECTOR)
    cfg = Config.fromfile(path)
    advice = advise_config(cfg, (32, 32), np.array([[9., 9.]]))
    assert advice[0].change.name == 'as-is'
    return path, cfg, {item.change.name: item for item in advice}


@pytest.mark.slow
def test_resnet18_at_32_pixels(advised):
    _, cfg, rows = advised
    assert len(rows['as-is'].report.unproductive) == 3
    assert set(rows) == {'as-is', 'stem-kernel-3', 'stem-stride-1', 'small-image-stem', 'deep-stem',
                         'no-maxpool', 'no-stride-8', 'no-stride-16', 'no-stride-32', 'gm-stem'}
    assert all(item.report is not None for item in rows.values())
    assert rows['small-image-stem'].report.unproductive == []
    masked = rows['gm-stem'].report
    assert masked.min_size == rows['as-is'].report.min_size == (139, 139)
    assert masked.outputs[-1].r_effective < masked.outputs[-1].r_max
    # what starts afresh has to learn
    assert rows['stem-kernel-3'].change.options == dict(frozen_stages=-1)
    assert rows['stem-stride-1'].change.options == {}


@pytest.mark.slow
def test_every_change_writes_a_config_that_trains(advised, tmp_path):
    """Anchors and RoIs lie where the maps' positions are: every stride is that of its map."""
    from mmdet.testing import demo_mm_inputs
    from mmdet.utils import register_all_modules
    register_all_modules()
    source, cfg, rows = advised
    for item in rows.values():
        target = tmp_path / 'written' / f'{item.change.name}.py'
        write_config(source, cfg, rows['as-is'], item, target)
        written = Config.fromfile(target)
        assert 'gmconv_mmdet.layers' in written.custom_imports.imports
        assert analyze(build_extractor(written).backbone, (32, 32)).min_size == item.report.min_size
        model = MODELS.build(written.model)
        with torch.no_grad():
            maps = model.extract_feat(torch.zeros(1, 3, 128, 192))
        strides = [(192 // f.shape[3], 128 // f.shape[2]) for f in maps]
        assert [tuple(s) for s in model.rpn_head.prior_generator.strides] == strides
        assert model.roi_head.bbox_roi_extractor.featmap_strides == [s[0] for s in strides[:4]]
        data = model.data_preprocessor(demo_mm_inputs(1, [[3, 64, 64]]), True)
        losses = model(**data, mode='loss')
        assert all(torch.isfinite(torch.as_tensor(v)).all() for v in losses['loss_rpn_bbox'])


def test_anchors_shrink_with_all_maps_or_keep_their_sizes(advised):
    _, cfg, rows = advised
    patch, by_hand = changed_strides(cfg, rows['as-is'].levels, rows['small-image-stem'].levels)
    assert by_hand == [] and patch == dict(
        rpn_head=dict(anchor_generator=dict(strides=[1, 2, 4, 8, 16])),
        roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[1, 2, 4, 8], finest_scale=14)))
    patch, _ = changed_strides(cfg, rows['as-is'].levels, rows['no-stride-32'].levels)
    assert patch == dict(
        rpn_head=dict(anchor_generator=dict(strides=[4, 8, 16, 16, 32],
                                            base_sizes=[4, 8, 16, 32, 64])),
        roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[4, 8, 16, 16])))
    assert changed_strides(cfg, rows['as-is'].levels, rows['gm-stem'].levels) == ({}, [])


@pytest.mark.slow
@pytest.mark.parametrize('name, part, by_hand', [
    ('retinanet/retinanet_r50_fpn_1x_coco.py',
     dict(anchor_generator=dict(strides=[4, 8, 16, 32, 64])), []),
    ('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', dict(strides=[4, 8, 16, 32, 64]),
     ['bbox_head.regress_ranges']),
    ('yolox/yolox_tiny_8xb8-300e_coco.py', dict(strides=[4, 8, 16]), []),   # a constructor's default
    ('yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py', dict(
        anchor_generator=dict(strides=[16, 8, 4]), featmap_strides=[16, 8, 4]), []),
    ('detr/detr_r50_8xb2-150e_coco.py', None, [])])
def test_one_stage_heads(tmp_path, name, part, by_hand):
    path = tmp_path / 'stock.py'
    path.write_text(f"_base_ = 'mmdet::{name}'\n")
    cfg = Config.fromfile(path)
    before = analyze(build_extractor(cfg), (96, 96)).outputs
    halved = [type(f)(**{**vars(f), 'jump': (f.jump[0] // 2,) * 2}) for f in before]
    patch, found = changed_strides(cfg, before, halved)
    assert patch.get('bbox_head') == part and found == by_hand


def test_edits_come_on_top_of_edits():
    once = dict(type='EditedBackbone', backbone=dict(type='ResNet', depth=18),
                edits=dict(conv1=dict(kernel_size=3), maxpool=None))
    twice = changed_backbone(once, Change('a', 'b', dict(conv1=dict(stride=1))))
    assert twice == dict(once, edits=dict(conv1=dict(kernel_size=3, stride=1), maxpool=None))


def test_nothing_is_overwritten(advised):
    source, cfg, rows = advised
    with pytest.raises(FileExistsError):
        write_config(source, cfg, rows['as-is'], rows['gm-stem'], source)
    assert source.read_text() == DETECTOR


@pytest.mark.slow
def test_environment_variables_stay_in_what_is_written(tmp_path, monkeypatch):
    source = tmp_path / 'detector.py'
    source.write_text(DETECTOR.replace('depth=18', "depth={{'$DEPTH:18'}}").replace(
        'init_cfg=None', "init_cfg=dict(type='Pretrained', "
        "checkpoint='{{$WEIGHTS:/default}}/r18.pth')"))
    monkeypatch.setenv('WEIGHTS', '/of/this/machine')
    cfg = Config.fromfile(source)
    rows = {item.change.name: item for item in advise_config(cfg, (32, 32))}
    for name in ('small-image-stem', 'stem-stride-1', 'gm-stem'):
        target = tmp_path / f'{name}.py'
        monkeypatch.setenv('WEIGHTS', '/of/this/machine')
        write_config(source, cfg, rows['as-is'], rows[name], target)
        assert '/of/this/machine' not in target.read_text()
        written = Config.fromfile(target).model.backbone
        written.pop('_scope_', None)
        assert written == changed_backbone(cfg.model.backbone, rows[name].change)
        monkeypatch.setenv('WEIGHTS', '/elsewhere')
        monkeypatch.setenv('DEPTH', '34')
        moved = str(Config.fromfile(target).model.backbone)
        assert '/elsewhere/r18.pth' in moved and "'depth': 34" in moved
        monkeypatch.delenv('DEPTH')
