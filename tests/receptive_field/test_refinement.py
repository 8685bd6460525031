"""Advice on real configs, and the configs that it writes."""

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS

from gmconv_mmdet.openmmlab.config_file import config_scope
from gmconv_mmdet.openmmlab.configured_network import build_extractor
from gmconv_mmdet.receptive_field.analyze import analyze
from gmconv_mmdet.receptive_field.field_table import advice_table
from gmconv_mmdet.receptive_field.refinement import Change, advise, evaluate, propose, write_config

DETECTOR = """
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'
default_scope = 'mmdet'
custom_imports = dict(imports=['gmconv_mmdet.layers'], allow_failed_imports=False)
model = dict(backbone=dict(depth=18, base_channels=8), neck=dict(in_channels=[8, 16, 32, 64]))
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / 'detector.py'
    path.write_text(DETECTOR)
    return path


def by_name(advice):
    return {item.change.name: item for item in advice}


def test_resnet18_at_32_pixels(source):
    rows = by_name(advise(Config.fromfile(source), (32, 32)))
    assert list(rows)[0] == 'as-is' and len(rows['as-is'].report.unproductive) == 3
    assert set(rows) == {'as-is', 'stem-kernel-3', 'stem-stride-1', 'small-image-stem', 'deep-stem',
                         'no-maxpool', 'stage-2-stride-1', 'stage-3-stride-1', 'stage-4-stride-1',
                         'gm-stem'}
    assert all(item.report is not None for item in rows.values())
    assert rows['small-image-stem'].report.unproductive == []
    assert rows['stem-stride-1'].report.macs > 3.5 * rows['as-is'].report.macs
    masked = rows['gm-stem'].report
    assert masked.min_size == rows['as-is'].report.min_size == (139, 139)
    assert masked.outputs[-1].r_effective < masked.outputs[-1].r_max
    text = advice_table(list(rows.values()))
    assert 'never changes the theoretical field' in text and 'small-image-stem' in text


@pytest.mark.slow
def test_every_change_writes_a_config_that_builds(source, tmp_path):
    cfg = Config.fromfile(source)
    for name, item in by_name(advise(cfg, (64, 64))).items():
        if name == 'as-is':
            continue
        target = tmp_path / 'written' / f'{name}.py'
        write_config(source, cfg, item.change, target)
        written = Config.fromfile(target)
        assert 'gmconv_mmdet.layers' in written.custom_imports.imports
        backbone = build_extractor(written).backbone
        assert analyze(backbone, (64, 64)).min_size == item.report.min_size
        if name == 'small-image-stem':
            written.model.backbone.backbone.init_cfg = None
            MODELS.build(written.model)   # the whole detector, heads included


def test_frozen_stem_is_released_when_it_starts_afresh(source):
    rows = by_name(advise(Config.fromfile(source), (64, 64)))
    assert rows['as-is'].change.backbone['frozen_stages'] == 1
    assert rows['stem-kernel-3'].change.backbone['backbone']['frozen_stages'] == -1
    assert rows['stem-stride-1'].change.backbone['backbone']['frozen_stages'] == 1


def test_nothing_is_overwritten(source):
    cfg = Config.fromfile(source)
    change = advise(cfg, (32, 32))[1].change
    with pytest.raises(FileExistsError):
        write_config(source, cfg, change, source)
    assert source.read_text() == DETECTOR


@pytest.mark.slow
def test_other_families_have_stem_and_stride_changes(tmp_path):
    path = tmp_path / 'yolox.py'
    path.write_text("_base_ = 'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py'\n")
    cfg = Config.fromfile(path)
    cfg.model.backbone.update(deepen_factor=0.33, widen_factor=0.125)
    rows = by_name(advise(cfg, (64, 64)))
    assert rows['stride-16-to-1'].report.outputs[-1].jump == (16, 16)
    with pytest.raises(KeyError):
        rows['deep-stem']
    assert evaluate(cfg, rows['as-is'].change, (64, 64)).report.macs == rows['as-is'].report.macs


@pytest.mark.slow
def test_environment_variables_stay_in_what_is_written(tmp_path, monkeypatch):
    source = tmp_path / 'detector.py'
    source.write_text(DETECTOR.replace('depth=18', "depth={{'$DEPTH:18'}}").replace(
        'base_channels=8', "base_channels=8, init_cfg=dict(type='Pretrained', "
        "checkpoint='{{$WEIGHTS:/default}}/r18.pth')"))
    monkeypatch.setenv('WEIGHTS', '/of/this/machine')
    cfg = Config.fromfile(source)
    backbone = cfg.model.backbone.to_dict()
    report = evaluate(cfg, Change('as-is', '', backbone), (64, 64)).report
    with config_scope(cfg):
        changes = {change.name: change for change in propose(backbone, report)}
    for name in ('small-image-stem', 'stem-stride-1', 'gm-stem'):
        target = tmp_path / f'{name}.py'
        monkeypatch.setenv('WEIGHTS', '/of/this/machine')
        write_config(source, cfg, changes[name], target)
        assert '/of/this/machine' not in target.read_text()
        written = Config.fromfile(target)
        assert _same(written.model.backbone, changes[name].backbone)
        monkeypatch.setenv('WEIGHTS', '/elsewhere')
        monkeypatch.setenv('DEPTH', '34')
        moved = str(Config.fromfile(target).model.backbone)
        assert '/elsewhere/r18.pth' in moved and "'depth': 34" in moved
        monkeypatch.delenv('DEPTH')


def _same(written, meant):
    written.pop('_scope_', None)
    return written.to_dict() == meant
