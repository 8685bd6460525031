"""A resumed training that goes on as if it had never been interrupted."""
from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import Dataset

from ..openmmlab.private_api import configured_seed

_VALIDATED = 'last_validation'  # after so many epochs or iterations; in the message hub
_ITERATION, _SAMPLE = 1, 2  # what is seeded


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Draws the random numbers of each iteration and of each sample from seeds of their own, so
    that they are the same whether or not a run was resumed before::

        custom_hooks = [dict(type='ExactResumeHook')]

    MMEngine 0.10.7 restores neither the state of the random generators nor that of the data loading
    processes: a resumed run draws the numbers of its beginning again, in its first epochs' order.
    Here

    * iteration ``i`` is seeded with (seed, ``i``);
    * sample ``k`` of the data set is loaded with a seed of (seed, epoch, ``k``), whatever the
      number of data loading processes, persistent or not;
    * the validation that was due right after the checkpoint resumed from is made again, unless its
      results are in the checkpoint, the best score among them.

    Data loading is seeded for epoch-based loops, and for iteration-based ones without data loading
    processes. With them MMEngine 0.10.7's own way is exact: it loads all that was loaded before.
    (OneDL's fork skips it: order and iterations are the same, augmentations are not.)

    It needs a fixed ``randomness.seed`` (without one it warns: the order of the data is drawn when
    a run starts), and numbers that don't depend on the machine's load: a fixed number of threads,
    deterministic algorithms. Not covered:

    * transforms that keep images of earlier samples (``CachedMosaic``);
    * checkpoints within an epoch of an epoch-based loop, after which MMEngine begins the epoch
      anew;
    * checkpoints between two steps of the optimizer, where ``accumulative_counts`` does not divide
      the iterations before it (those of an epoch): no checkpoint holds gradients. It warns at the
      first one.
    """

    priority = 'LOWEST'  # before_train validates, which all other hooks have to be ready for

    def __init__(self) -> None:
        self._moment = torch.zeros((), dtype=torch.long).share_memory_()  # epoch or iteration
        self._by_iterations = False
        self._told_of_gradients = False

    def before_run(self, runner: Runner) -> None:
        # Here, for MMEngine takes the seed of the checkpoint over later on.
        if configured_seed(runner) is None:
            runner.logger.warning(
                'ExactResumeHook: no seed is set, so a resumed training will not go on exactly as '
                'an undisturbed one. Set randomness = dict(seed=0)')

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        self._by_iterations = isinstance(loop, IterBasedTrainLoop)
        loader = loop.dataloader
        if not self._by_iterations or loader.num_workers == 0:
            self._moment.fill_(runner.iter if self._by_iterations else runner.epoch)
            # torch asks a data set for a batch in this way if it can.
            loader.dataset.__getitems__ = SeededSamples(loader.dataset, runner.seed, self._moment)
        if (runner.iter > 0 and self._validation_is_due(runner)
                and runner.message_hub.runtime_info.get(_VALIDATED) != self._done(runner)):
            runner.logger.info('The validation that was due after the checkpoint is made again: '
                               'its results are not in it')
            runner.val_loop.run()

    def _validation_is_due(self, runner: Runner) -> bool:
        """As MMEngine's training loops decide after each epoch or iteration."""
        loop = runner.train_loop
        if runner.val_loop is None or not isinstance(loop, (EpochBasedTrainLoop,
                                                            IterBasedTrainLoop)):
            return False
        done, end = self._done(runner), (runner.max_iters if self._by_iterations else
                                         runner.max_epochs)
        interval = loop.dynamic_intervals[bisect(loop.dynamic_milestones, done + 1) - 1]
        return done >= loop.val_begin and (done % interval == 0 or done == end)

    def _done(self, runner: Runner) -> int:
        return runner.iter if self._by_iterations else runner.epoch

    def before_val(self, runner: Runner) -> None:
        # A checkpoint that is written once more after a validation, with its best score, tells by
        # this that the validation is in it.
        runner.message_hub.update_info(_VALIDATED, self._done(runner))

    def before_train_epoch(self, runner: Runner) -> None:
        if not self._by_iterations:
            self._moment.fill_(runner.epoch)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        wrapper = getattr(runner, 'optim_wrapper', None)
        wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        if not self._told_of_gradients and not all(
                one.should_update() for one in wrappers if isinstance(one, OptimWrapper)):
            self._told_of_gradients = True
            runner.logger.warning(
                'ExactResumeHook: this checkpoint comes between two steps of the optimizer, for '
                'accumulative_counts does not divide the number of iterations before it. Gradients '
                'gathered so far are not in it: a training resumed from it will not go on exactly. '
                'Save after a multiple of accumulative_counts iterations')

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        seed_all(_ITERATION, runner.seed, runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        if self._by_iterations:
            self._moment.fill_(runner.iter + 1)


class SeededSamples:
    """Loads samples of a data set, each with a seed of (seed, moment, its index)."""

    def __init__(self, dataset: Dataset, seed: int, moment: torch.Tensor) -> None:
        self.dataset, self.seed, self.moment = dataset, seed, moment

    def __call__(self, indices: Sequence[int]) -> list:
        samples = []
        for index in indices:
            seed_all(_SAMPLE, self.seed, int(self.moment), int(index))
            samples.append(self.dataset[index])
        return samples


def seed_all(*key: int) -> None:
    """Seed Python's, numpy's and torch's generators (on all devices) with whole numbers >= 0."""
    # Mixed, for seeds in sequence may give like streams.
    first, second, third, fourth = np.random.SeedSequence(key).generate_state(4)
    random.seed(int(first))
    np.random.seed(int(second))
    torch.manual_seed(int(third) << 32 | int(fourth))
