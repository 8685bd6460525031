"""Private names of MMEngine and mmdet that we use. A failure here names what a new version of theirs
has changed, and :mod:`gmconv_mmdet.openmmlab.private_api` is where to follow it."""
from __future__ import annotations

import inspect

import mmdet
import mmengine
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.dataset import BaseDataset
from mmengine.hooks import CheckpointHook
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader, Runner, checkpoint

from gmconv_mmdet.openmmlab import private_api

VERSIONS = f'mmengine {mmengine.__version__}, mmdet {mmdet.__version__}'


@pytest.mark.parametrize('owner, name', [
    (Runner.__init__, '_resume'), (Runner.__init__, '_load_from'),
    (Runner.__init__, '_randomness_cfg'), (BaseModule.init_weights, '_params_init_info'),
    (BaseDataset.__init__, '_metainfo'), (CocoMetric.compute_metrics, 'COCOeval'),
    (CheckpointHook.after_train_epoch, '_save_checkpoint'),
    (CheckpointHook._save_checkpoint, '_save_checkpoint_with_step'),
    (CheckpointHook.after_val_epoch, '_save_best_checkpoint')])
def test_name_is_used_where_we_expect_it(owner, name):
    assert name in owner.__code__.co_names, f'{VERSIONS}: {owner.__qualname__} has no {name}'


@pytest.mark.parametrize('method, arguments', [
    ('_save_checkpoint_with_step', ['self', 'runner', 'step', 'meta']),
    ('_save_best_checkpoint', ['self', 'runner', 'metrics'])])
def test_overridden_method_takes_the_same_arguments(method, arguments):
    found = list(inspect.signature(getattr(CheckpointHook, method)).parameters)
    assert found == arguments, f'{VERSIONS}: CheckpointHook.{method} takes {found}'


def test_loaders_are_found_by_prefix():
    assert private_api.registered_loader('http://') is checkpoint.load_from_http, VERSIONS
    assert private_api.registered_loader('') is not None, VERSIONS
    assert '' in CheckpointLoader._schemes


def test_a_runner_tells_of_seed_and_resume(tmp_path):
    runner = Runner(model=torch.nn.Linear(1, 1), work_dir=str(tmp_path), resume=True,
                    load_from='there.pth', randomness=dict(seed=3), log_level='ERROR',
                    experiment_name='private_api', default_scope='mmengine')
    assert private_api.resumes(runner) and private_api.start_checkpoint(runner) == 'there.pth'
    assert private_api.configured_seed(runner) == 3
