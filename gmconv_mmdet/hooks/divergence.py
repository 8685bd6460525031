"""Stops a training whose numbers are no longer finite, and says where that began."""
from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import torch
import torch.nn as nn
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor


class DivergenceError(FloatingPointError):
    """Values of a model in training are NaN or infinite; the message names where they began."""


@HOOKS.register_module()
class DivergenceHook(Hook):
    """Stops the run at the first NaN or infinite value and names where it arose: the output of a
    layer (the first in the order in which they run, frozen and parameter-free ones and the data
    preprocessor included), a loss though all outputs are finite, or a weight after the step.

    The exception, :class:`DivergenceError`, comes before MMEngine's hooks see the iteration:
    neither an averaged model nor a checkpoint takes the values up, and the last one is good.
    Outputs are looked at whenever a direct part of the model (``backbone``, ``neck``, a head) is
    through, before losses and boxes are computed from them.

    Off unless a config names it: ``custom_hooks = [dict(type='DivergenceHook')]``. It reads every
    output and weight once (docs/numerical_stability.md has what that costs), and waits for an
    accelerator a few times an iteration. In a run of several processes each looks after its own.

    Args:
        interval (int): look at every n-th iteration only. What is named then may be what the
            first bad value has led to.

    Raises:
        ValueError: ``interval`` is not a whole number of at least 1.
    """

    priority = 'VERY_HIGH'

    def __init__(self, interval: int = 1) -> None:
        if not isinstance(interval, int) or isinstance(interval, bool) or interval < 1:
            raise ValueError(f'interval must be a whole number of at least 1, got {interval!r}')
        self.interval = interval
        self._active = False
        self._iteration = 0
        self._outputs: list[tuple[str, Tensor]] = []  # layer, whether its output is finite
        self._last_output: Tensor | None = None
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def before_train(self, runner: Runner) -> None:
        self._model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._handles = [layer.register_forward_hook(self._watch(name))
                         for name, layer in self._model.named_modules() if name]

    def _watch(self, name: str):
        def watch(layer: nn.Module, inputs: tuple, output: object) -> None:
            if not self._active:
                return
            for tensor in _tensors(output):
                if tensor is not self._last_output:  # a container's is that of its last layer
                    self._outputs.append((f'{name} ({type(layer).__name__})', _is_finite(tensor)))
                    self._last_output = tensor
            if '.' not in name:
                self._check_outputs()
        return watch

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        self._iteration = runner.iter + 1
        self._active = self._iteration % self.interval == 0

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None,
                         outputs: Mapping | None = None) -> None:
        if not self._active:
            return
        self._check_outputs()
        losses = {name: float(value) for name, value in (outputs or {}).items()
                  if 'loss' in name and (isinstance(value, float) or _is_number(value))}
        infinite = [name for name, value in losses.items() if not math.isfinite(value)]
        if infinite:
            name = next((name for name in infinite if name != 'loss'), infinite[0])
            self._stop(f'{name} is {losses[name]}, computed from finite outputs of all layers')
        bad = self._bad_weights(buffers=True)
        if bad:
            self._stop(f'{bad[0]} is not finite after the step ({len(bad)} weights and buffers are '
                       'not): the step was too large, or a gradient was not finite')
        self._active, self._last_output = False, None

    def after_train(self, runner: Runner) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _check_outputs(self) -> None:
        bad = _bad_names(self._outputs)
        if bad:
            weights = self._bad_weights()
            self._stop(f'{weights[0]} was not finite before the iteration ({len(weights)} of the '
                       'model\'s weights were not)' if weights else
                       f'the output of {bad[0]} is the first that is not finite; all weights are')
        self._outputs.clear()

    def _bad_weights(self, buffers: bool = False) -> list[str]:
        """Names of weights that are not finite. Buffers take up a forward pass's values."""
        tensors = [*self._model.named_parameters(),
                   *(self._model.named_buffers() if buffers else ())]
        return _bad_names((name, _is_finite(tensor)) for name, tensor in tensors
                          if tensor.is_floating_point() and tensor.numel())

    def _stop(self, what: str) -> None:
        self._active, self._last_output = False, None
        self._outputs.clear()
        raise DivergenceError(
            f'training diverged in iteration {self._iteration}: {what}. Nothing of this iteration '
            'was saved. Go on from the last checkpoint with a smaller learning rate or with '
            'clip_grad; in fp16 try bf16 or fp32')


def _tensors(output: object) -> Iterator[Tensor]:
    """The tensors in a layer's output that can be NaN."""
    if isinstance(output, Tensor):
        if output.is_floating_point() and output.numel():
            yield output
    elif isinstance(output, (list, tuple, Mapping)):
        for part in output.values() if isinstance(output, Mapping) else output:
            yield from _tensors(part)


@torch.no_grad()
def _is_finite(tensor: Tensor) -> Tensor:
    """A boolean tensor ``()``. One pass without a copy: NaN and infinities show in the extremes."""
    low, high = tensor.detach().aminmax()
    return torch.isfinite(low) & torch.isfinite(high)


def _is_number(value: object) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1


def _bad_names(flags: Iterable[tuple[str, Tensor]]) -> list[str]:
    """The names whose flag is False, with one transfer from the device."""
    flags = list(flags)
    if not flags:
        return []
    finite = torch.stack([flag for _, flag in flags]).tolist()
    return list(dict.fromkeys(name for (name, _), good in zip(flags, finite) if not good))
