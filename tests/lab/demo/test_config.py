"""The demo's config, read as mmdet's tools read it."""
import os

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from gmconv_mmdet.lab.demo.shapes import CLASSES

CONFIG = 'configs/demo/faster-rcnn_r18-gm_fpn_shapes.py'


@pytest.fixture
def cfg(repo, monkeypatch, tmp_path):
    monkeypatch.delenv('GMCONV_DEMO_DATA', raising=False)
    monkeypatch.chdir(tmp_path)
    return Config.fromfile(repo / CONFIG)


def test_finds_its_data_from_any_folder(cfg, repo, monkeypatch):
    assert os.path.samefile(os.path.dirname(os.path.dirname(os.path.normpath(cfg.data_root))), repo)
    monkeypatch.setenv('GMCONV_DEMO_DATA', '/some where/shapes')
    cfg = Config.fromfile(repo / CONFIG)
    assert cfg.data_root == '/some where/shapes/'
    for loader, split in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        dataset = cfg[f'{loader}_dataloader'].dataset
        assert dataset.data_root == '/some where/shapes/'
        assert dataset.ann_file == f'annotations/instances_{split}.json'
    assert cfg.test_evaluator.ann_file == '/some where/shapes/annotations/instances_val.json'


def test_is_the_network_that_the_demo_promises(cfg):
    assert tuple(cfg.metainfo.classes) == CLASSES
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model)
    kinds = model.backbone.placement()
    assert kinds['conv1'] == 'dynamic'
    assert sum(kind == 'static' for kind in kinds.values()) == 16
    assert model.roi_head.bbox_head.num_classes == len(CLASSES)
    assert all(p.requires_grad for p in model.parameters())
    model.train()
    assert all(m.training for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
