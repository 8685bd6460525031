from __future__ import annotations

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from gmconv_mmdet.lab.reproduce.preflight import (
    PreflightError,
    check_disk,
    check_gpus,
    check_start,
    check_training,
    check_weights,
)


def detector(kind='GMResNet', weights=None, width=8):
    init = dict(type='GMPretrained', checkpoint=weights) if weights else None
    return Config(dict(model=dict(backbone=dict(
        type=kind, depth=18, base_channels=width, init_cfg=init))))


def test_all_problems_are_told_at_once():
    assert str(PreflightError(['a', 'b'])) == (
        '2 problems found before the first iteration:\n1. a\n2. b')
    told = check_training(Config(dict(train_cfg=dict(max_iters=9), test_evaluator=dict(
        type='VOCMetric'))))
    assert 'train_cfg has no max_epochs' in told[0] and 'not one CocoMetric' in told[1]


@pytest.mark.slow
def test_weights_are_tried(tmp_path):
    path = str(tmp_path / 'backbone.pth')
    assert check_weights(detector(weights='https://nowhere/x.pth'), 'gm') == [], 'not fetched'
    problem, = check_weights(detector(weights=path), 'gm')
    assert problem.startswith('gm: ') and 'no checkpoint at' in problem
    torch.save(MODELS.build(detector().model.backbone).state_dict(), path)
    assert check_weights(detector(weights=path), 'gm') == []
    problem, = check_weights(detector('ResNet', path), 'plain')
    assert 'plain has no GMConv' in problem and '--pretrained-plain' in problem
    assert 'does not fit' in check_weights(detector(weights=path, width=16), 'gm')[0]


def test_the_detector_to_start_from_is_there_and_whole(tmp_path):
    cfg = detector()
    assert check_start(cfg) == []
    cfg.load_from = str(tmp_path / 'epoch_8.pth')
    assert 'epoch_8.pth is not there or cut short' in check_start(cfg)[0]
    torch.save(dict(state_dict={}), cfg.load_from)
    assert check_start(cfg) == []


def test_disk_and_machine(tmp_path):
    cfg = Config(dict(model=detector().model.backbone))
    assert check_disk(tmp_path / 'not' / 'there', 1, cfg) == []
    problem, = check_disk(tmp_path, 10**7, cfg)
    assert 'GB are free' in problem and '--work-root' in problem
    assert check_gpus(0) == []
    problem, = check_gpus(torch.cuda.device_count() + 1)
    assert '--gpus 0 uses the CPU' in problem
