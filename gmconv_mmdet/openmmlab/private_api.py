"""Everything of MMEngine and mmdet that this package uses though it is not public.

``tests/openmmlab/test_private_api.py`` tries each against the installed versions. Two more uses
are overridden methods, which can't move here: ``CheckpointHook._save_checkpoint_with_step`` and
``_save_best_checkpoint`` (:mod:`..hooks.safe_checkpoint`); and data sets set ``_metainfo``
(:mod:`..datasets.packed_cifar`), as MMEngine's own do.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch.nn as nn
from mmdet.evaluation.metrics import coco_metric
from mmengine.model.weight_init import update_init_info
from mmengine.runner import CheckpointLoader, Runner


def resumes(runner: Runner) -> bool:
    """Whether the run was asked to resume (``--resume``), before it does."""
    return bool(runner._resume)


def start_checkpoint(runner: Runner) -> str | None:
    """The checkpoint that a run loads or resumes from (``load_from``), if one is named."""
    return runner._load_from


def configured_seed(runner: Runner) -> int | None:
    """The seed that was set, ``None`` where MMEngine draws one. ``runner.seed`` has either."""
    return runner._randomness_cfg.get('seed')


def registered_loader(prefix: str) -> Callable | None:
    """MMEngine's loader of checkpoints whose path begins with ``prefix``."""
    return CheckpointLoader._schemes.get(prefix)


def note_initialisation(module: nn.Module, text: str) -> None:
    """Note where weights come from for MMEngine's log, while it initialises a model."""
    if hasattr(module, '_params_init_info'):
        update_init_info(module, init_info=text)


@contextmanager
def coco_eval_replaced(evaluator: Callable) -> Iterator[None]:
    """Within, mmdet's ``CocoMetric`` evaluates with ``evaluator``, called as ``COCOeval`` is.

    Raises:
        RuntimeError: this mmdet does not evaluate with a ``COCOeval``.
    """
    stock = getattr(coco_metric, 'COCOeval', None)
    if stock is None:
        raise RuntimeError('this version of mmdet evaluates in another way than FastCocoMetric '
                           'knows: use CocoMetric')
    coco_metric.COCOeval = evaluator
    try:
        yield
    finally:
        coco_metric.COCOeval = stock
