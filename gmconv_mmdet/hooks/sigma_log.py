"""Logs what the masks learn while a model is trained."""
from __future__ import annotations

from pathlib import Path

import torch
import torch.nn as nn
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from ..analysis.masks import (both_axes, describe_masks, extent, gm_layers, stage_averages,
                              write_csv)
from ..layers import GMConv2d, gaussian_mask


@HOOKS.register_module()
class SigmaLogHook(Hook):
    """Sigma and effective kernel size of every masked layer, to all of the runner's visualizer's
    backends (local JSON, TensorBoard ...), and a picture of all masks at the end.

    Scalars, without sigma's sign, which means nothing:

    * ``sigma/<layer>`` of a static layer; ``sigma_x/<layer>`` and ``sigma_y/<layer>`` of a dynamic
      one: the mean over the samples of the iteration (of the first process, if there are several).
    * ``effective_kernel/<layer>``, in kernel cells: the size of the plain kernel with the mask's
      second moment (see :func:`~gmconv_mmdet.analysis.masked_kernel.masked_extent`), for elliptical
      masks the geometric mean of height and width.

    ``masks.png`` and ``masks.csv`` go to the run's log folder, ``<work_dir>/<time>/``. Of a dynamic
    layer they show the mask for a blank image; ``tools/visualize_masks.py`` shows it for images.

    Between two logged iterations the hook does nothing, and logging takes one transfer from the
    device. Without masks in the model it says so once and stays idle.

    Args:
        interval (int): iterations between two entries; by default as MMDetection's log.

    Raises:
        ValueError: ``interval`` is not a whole number of at least 1.
    """

    priority = 'BELOW_NORMAL'  # as LoggerHook

    def __init__(self, interval: int = 50) -> None:
        if not isinstance(interval, int) or isinstance(interval, bool) or interval < 1:
            raise ValueError(f'interval must be a whole number of at least 1, got {interval!r}')
        self.interval = interval
        self._layers: dict[str, GMConv2d] = {}
        self._predicted: dict[str, Tensor] = {}
        self._watches: list[torch.utils.hooks.RemovableHandle] = []

    @master_only
    def before_train(self, runner: Runner) -> None:
        self._layers = gm_layers(_unwrapped(runner.model))
        if not self._layers:
            MMLogger.get_current_instance().info(
                'SigmaLogHook: the model has no Gaussian masks, nothing to log')

    @master_only
    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        # Watching single iterations only keeps the others free of any cost.
        if (runner.iter + 1) % self.interval == 0:
            for name, layer in self._layers.items():
                if layer.dynamic:
                    self._watches.append(
                        layer.sigma_predictor.register_forward_hook(self._keeper(name)))

    def _keeper(self, name: str):
        def keep(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
            self._predicted[name] = output.detach()
        return keep

    @master_only
    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None,
                         outputs=None) -> None:
        if (runner.iter + 1) % self.interval:
            return
        for watch in self._watches:
            watch.remove()
        self._watches.clear()
        scalars = self._scalars()
        self._predicted.clear()
        if scalars:
            runner.visualizer.add_scalars(scalars, step=runner.iter + 1)

    @torch.no_grad()
    def _scalars(self) -> dict[str, float]:
        rows = {}  # (N, 2), on the device
        for name, layer in self._layers.items():
            # A compiled model may run past the watch: such a layer has no entry.
            sigma = self._predicted.get(name) if layer.dynamic else layer.sigma
            if sigma is not None and sigma.numel():
                rows[name] = both_axes(sigma.reshape(-1, sigma.shape[-1])).float()
        if not rows:
            return {}
        numbers = torch.cat(list(rows.values())).cpu().split([len(row) for row in rows.values()])
        scalars = {}
        for name, sigmas in zip(rows, numbers):
            x, y = sigmas.mean(0).tolist()
            dynamic = self._layers[name].dynamic
            scalars.update({f'sigma_x/{name}': x, f'sigma_y/{name}': y} if dynamic
                           else {f'sigma/{name}': x})
            height, width = extent(gaussian_mask(self._layers[name].kernel_size,
                                                 sigmas.double().mean(0)))
            scalars[f'effective_kernel/{name}'] = (height * width) ** 0.5
        return scalars

    @master_only
    def after_train(self, runner: Runner) -> None:
        if not self._layers:
            return
        from ..analysis.mask_picture import mask_figure  # matplotlib, needed at the end only
        masks = describe_masks(_unwrapped(runner.model))
        folder = Path(runner.log_dir)
        title = f'{runner.experiment_name}: after {runner.iter} iterations'
        mask_figure(masks, title).savefig(folder / 'masks.png', dpi=130)
        with open(folder / 'masks.csv', 'w', newline='', encoding='utf-8') as file:
            write_csv([*masks, *stage_averages(masks)], file)


def _unwrapped(model: nn.Module) -> nn.Module:
    return model.module if is_model_wrapper(model) else model
