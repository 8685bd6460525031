"""Validates and tests the folded model: what ships is what is measured."""
from __future__ import annotations

import torch.nn as nn
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..conversion import fold_gmconv


@HOOKS.register_module()
class FoldGMConvHook(Hook):
    """Exchanges the model for a folded copy during each validation and test epoch.

    The model in training is neither folded nor written to: a copy is, and the very object that was
    taken out comes back after the epoch. Masks of a dynamic stem stay, as :func:`fold_gmconv` says.

    Priority ``LOW``: after ``EMAHook`` (``NORMAL``) has put the averaged weights in, so that these
    are folded, and before ``CheckpointHook`` (``VERY_LOW``) saves a best checkpoint, so that this
    is of the model in training. A wrapped model (``DistributedDataParallel``) is exchanged for the
    copy of the module within: nothing is synchronised in an epoch without gradients. The copy needs
    the memory of a second model, which is free again after the epoch.
    """
    priority = 'LOW'

    def __init__(self) -> None:
        self._model: nn.Module | None = None  # the runner's own, while a copy stands in

    def before_val_epoch(self, runner: Runner) -> None:
        self._fold(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._restore(runner)

    def before_test_epoch(self, runner: Runner) -> None:
        self._fold(runner)

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._restore(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        self._restore(runner)  # had an epoch of validation been broken off

    def _fold(self, runner: Runner) -> None:
        self._restore(runner)
        self._model = runner.model
        inner = runner.model.module if is_model_wrapper(runner.model) else runner.model
        runner.model = fold_gmconv(inner)
        for step in ('val_step', 'test_step'):
            # MMEngine hangs compiled steps on the model itself; they would run the original.
            vars(runner.model).pop(step, None)

    def _restore(self, runner: Runner) -> None:
        if self._model is not None:
            runner.model, self._model = self._model, None
