"""One real training step and one evaluated image, with what MMEngine's runner is made of."""
from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import RuntimeInfoHook
from mmengine.runner import Runner

_IMAGES_ON_CPU = 2
_GROWTH = 10  # of the loss, from which on a step is one too large


@dataclass(frozen=True)
class Step:
    """A training step.

    Attributes:
        losses: by name.
        after: the loss of the same images after the step.
        images: in the batch.
        dataset: images in the training set.
        warned: what was warned of.
    """
    losses: dict[str, float]
    after: float
    images: int
    dataset: int
    warned: list[str]


def trial_config(cfg: Config, work_dir: str) -> Config:
    """A copy of a config that is read in one process, writes to ``work_dir`` alone, and logs
    nothing. On a GPU the batch stays, so that memory is tried; the CPU gets two images."""
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = work_dir
    cfg.update(launcher='none', log_level='CRITICAL', load_from=None, resume=False, compile=False,
               experiment_name=Path(work_dir).name)  # names what MMEngine keeps in the process
    visualizer = cfg.get('visualizer')
    if isinstance(visualizer, dict):  # one may log on to a service
        visualizer.update(vis_backends=[dict(type='LocalVisBackend')], name=Path(work_dir).name)
    cfg.pop('vis_backends', None)
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if not isinstance(loader, dict):
            continue
        loader.update(num_workers=0, persistent_workers=False, pin_memory=False)
        for key in ('prefetch_factor', 'timeout', 'multiprocessing_context'):
            loader.pop(key, None)
        if loader.get('batch_size') and (split != 'train' or get_device() == 'cpu'):
            loader['batch_size'] = min(loader['batch_size'],
                                       _IMAGES_ON_CPU if split == 'train' else 1)
    scaling = cfg.get('auto_scale_lr')
    if isinstance(scaling, dict):
        scaling['enable'] = False
    return cfg


class Trial:
    """A runner that takes one step of each kind.

    Args:
        cfg (Config): see :func:`trial_config`.
        model (nn.Module): its weights are taken over.
    """

    def __init__(self, cfg: Config, model: nn.Module) -> None:
        self.cfg = cfg
        self.runner = Runner.from_cfg(cfg)  # hooks, visualizer and the model again
        self.runner.model.load_state_dict(model.state_dict())

    def train_step(self) -> Step:
        """Read a batch and learn from it once."""
        runner = self.runner
        loop = runner.build_train_loop(runner._train_loop)
        runner._train_loop = loop
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        if runner.param_schedulers is not None:  # sets the first step's learning rate
            runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
        for hook in runner.hooks:  # some models ask which iteration it is
            if isinstance(hook, RuntimeInfoHook):
                hook.before_run(runner)
                hook.before_train(runner)
                hook.before_train_epoch(runner)
                hook.before_train_iter(runner, 0)
        loader = loop.dataloader
        batch = next(iter(loader))
        runner.model.train()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            losses = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
            with torch.no_grad():
                data = runner.model.data_preprocessor(batch, True)
                again = runner.model.parse_losses(runner.model._run_forward(data, mode='loss'))[0]
        numbers = {name: float(value) for name, value in losses.items()}
        return Step(numbers, float(again), len(batch['inputs']), len(loader.dataset),
                    [str(warning.message) for warning in caught])

    @torch.no_grad()
    def evaluate_one(self) -> tuple[int, dict[str, Any]]:
        """Detect on one image and evaluate that: the number of boxes, the metrics."""
        runner = self.runner
        runner._val_loop = loop = runner.build_val_loop(runner._val_loop)
        runner.model.eval()
        batch = next(iter(loop.dataloader))
        outputs = runner.model.val_step(batch)
        loop.evaluator.process(data_samples=outputs, data_batch=batch)
        metrics = loop.evaluator.evaluate(len(outputs))
        found = getattr(outputs[0], 'pred_instances', ())
        return len(found), metrics

    @property
    def evaluates(self) -> bool:
        """Whether the config has a validation."""
        return self.cfg.get('val_cfg') is not None


def broken(step: Step) -> str:
    """What is wrong with the losses of a step; '' where nothing is."""
    wrong = [name for name, value in step.losses.items() if not math.isfinite(value)]
    if wrong:
        return f'{", ".join(wrong)} is not finite in the first step'
    before = step.losses.get('loss', 0)
    if not step.after <= _GROWTH * abs(before) + _GROWTH:
        return f'the first step takes the loss from {before:.3g} to {step.after:.3g}'
    return ''
