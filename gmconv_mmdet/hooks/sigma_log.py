"""Logs what the masks learn while a model is trained, and what moves them."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from ..layers import GMConv2d, gaussian_mask
from ..layers.find_layers import gm_layers
from ..messages import shortened
from ..visualization.masks import both_axes, describe_masks, extent, stage_averages, write_csv
from .sigma_drift import SigmaDrift

STATE = 'sigma_drift'  # key in a checkpoint
FLAT = 0.999  # the smallest entry of a mask that is as good as none
# Names of b1's numbers for each sigma_pattern.
B1_NAMES = {'sigma': ['b1_sigma'], 'sigma_pair': ['b1_sigma_x', 'b1_sigma_y'],
            'sigma_ratio': ['b1_sigma', 'b1_ratio']}


@HOOKS.register_module()
class SigmaLogHook(Hook):
    """Sigma and effective kernel size of every masked layer, to all of the runner's visualizer's
    backends (local JSON, TensorBoard ...), and a picture of all masks at the end.

    Scalars, without sigma's sign, which means nothing:

    * ``sigma/<layer>`` of a static layer; ``sigma_x/<layer>`` and ``sigma_y/<layer>`` of a dynamic
      one: the mean over the samples of the iteration (of the first process, if there are several).
    * ``effective_kernel/<layer>``, in kernel cells: the size of the plain kernel with the mask's
      second moment (see :func:`~gmconv_mmdet.layers.masked_kernel.masked_extent`), for elliptical
      masks the geometric mean of height and width.

    * ``b1_sigma/<layer>`` and ``b1_ratio/<layer>`` of a dynamic layer (``b1_sigma_x``, ``_y`` for
      ``sigma_pair``): the predictor's bias, its answer to a blank image.
    * What moved them. For each ``N`` of ``sigma``, ``b1_sigma``, ``b1_ratio``:
      ``N_by_decay/<layer>``, the sum of all changes by weight decay since the training began,
      its part of the momentum included, and ``N_by_gradient/<layer>``, all other change. Together
      with the value at the start they are the value. Kept over a resume. For SGD and AdamW, and
      for any optimizer that does not decay the masks; see :class:`.sigma_drift.SigmaDrift`.
    * ``N_gradient_norm/<layer>``: of this iteration's loss, on the first process, without the
      scale of a gradient scaler. 0 where there is none.

    After a tenth of the training it warns, once, of masks that are flat within 0.1 % (their layers
    are plain convolutions), of masks that no gradient has reached, and where all are frozen.

    ``masks.png`` and ``masks.csv`` go to the run's log folder, ``<work_dir>/<time>/``. Of a dynamic
    layer they show the mask for a blank image; ``visualize_masks.py`` (tools) shows it for images.

    Between two logged iterations the hook adds up what decay does, in tensors as long as there are
    sigmas; logging takes one transfer from the device. Without masks in the model it says so once
    and stays idle.

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
        self._gradients: dict[str, Tensor] = {}
        self._watches: list[torch.utils.hooks.RemovableHandle] = []
        self._drift: SigmaDrift | None = None
        self._resumed: dict | None = None
        self._loss_scale = 1.
        self._learned: set[str] = set()  # layers whose mask had a gradient
        self._checked = False

    @master_only
    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._resumed = checkpoint.get(STATE)

    @master_only
    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self._drift is not None:
            checkpoint[STATE] = self._drift.state_dict()

    @master_only
    def before_train(self, runner: Runner) -> None:
        logger = MMLogger.get_current_instance()
        self._layers = gm_layers(_unwrapped(runner.model))
        if not self._layers:
            logger.info('SigmaLogHook: the model has no Gaussian masks, nothing to log')
            return
        wrapper = runner.optim_wrapper
        self._wrappers = list(wrapper.values() if isinstance(wrapper, OptimWrapperDict) else
                              [wrapper])
        self._drift = SigmaDrift({name: _own(layer) for name, layer in self._layers.items()},
                                 [one.optimizer for one in self._wrappers])
        if self._resumed and runner.iter:  # not for weights to start from (`load_from`)
            self._drift.load_state_dict(self._resumed)
        if not self._drift.known:
            logger.info('SigmaLogHook: what weight decay does to the masks is known of SGD and '
                        'AdamW only, and not logged')

    @master_only
    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        if self._drift is None:
            return
        self._drift.before_step()
        if (runner.iter + 1) % self.interval:
            return
        # Watching single iterations only keeps the others free of this cost.
        self._loss_scale = max([float(one.loss_scaler.get_scale()) for one in self._wrappers
                                if hasattr(one, 'loss_scaler')], default=1.)
        for name, layer in self._layers.items():
            if layer.dynamic:
                self._watches.append(
                    layer.sigma_predictor.register_forward_hook(self._keeper(name)))
            if _own(layer).requires_grad:
                self._watches.append(_own(layer).register_hook(self._gradient_keeper(name)))

    def _keeper(self, name: str):
        def keep(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
            self._predicted[name] = output.detach()
        return keep

    def _gradient_keeper(self, name: str):
        def keep(gradient: Tensor) -> None:
            self._gradients[name] = self._gradients.get(name, 0) + gradient.detach()
        return keep

    @master_only
    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None,
                         outputs=None) -> None:
        if self._drift is None:
            return
        self._drift.after_step()
        if (runner.iter + 1) % self.interval:
            return
        for watch in self._watches:
            watch.remove()
        self._watches.clear()
        scalars, smallest = self._scalars()
        self._predicted.clear()
        self._gradients.clear()
        runner.visualizer.add_scalars(scalars, step=runner.iter + 1)
        if not self._checked and 10 * (runner.iter + 1) >= runner.max_iters:
            self._checked = True
            self._warn(smallest)

    @torch.no_grad()
    def _scalars(self) -> tuple[dict[str, float], dict[str, float]]:
        """What is logged, and the smallest entry of each layer's mask."""
        rows = {}  # (N, 2), on the device
        for name, layer in self._layers.items():
            # A compiled model may run past the watch: such a layer has no entry.
            sigma = self._predicted.get(name) if layer.dynamic else layer.sigma
            if sigma is not None and sigma.numel():
                rows[name] = both_axes(sigma.reshape(-1, sigma.shape[-1])).double()
        parts = self._drift.parts()
        gradients = torch.cat([self._gradients.get(name, torch.zeros_like(_own(layer))).reshape(-1)
                               for name, layer in self._layers.items()])
        moved = torch.cat([parts, gradients.abs()[None].to(parts)]).t()  # (numbers, 4)
        flat = torch.cat([*(row.to(parts).flatten() for row in rows.values()), moved.flatten()])
        numbers = flat.cpu()
        *sigmas, moved = numbers.split([row.numel() for row in rows.values()] + [moved.numel()])
        moved = iter(moved.reshape(-1, 4).tolist())
        scalars: dict[str, float] = {}
        smallest: dict[str, float] = {}
        for name, layer in self._layers.items():
            for own in (B1_NAMES[layer.sigma_predictor.sigma_pattern] if layer.dynamic
                        else ['sigma']):
                value, by_decay, by_gradient, gradient = next(moved)
                scalars[f'{own}/{name}'] = value
                if self._drift.known:
                    scalars[f'{own}_by_decay/{name}'] = by_decay
                    scalars[f'{own}_by_gradient/{name}'] = by_gradient
                scalars[f'{own}_gradient_norm/{name}'] = gradient / self._loss_scale
                if gradient:
                    self._learned.add(name)
        for name, sigma in zip(rows, sigmas):
            sigma = sigma.reshape(-1, 2).mean(0)
            if self._layers[name].dynamic:
                scalars[f'sigma_x/{name}'], scalars[f'sigma_y/{name}'] = sigma.tolist()
            mask = gaussian_mask(self._layers[name].kernel_size, sigma)
            height, width = extent(mask)
            scalars[f'effective_kernel/{name}'] = (height * width) ** 0.5
            smallest[name] = float(mask.min())
        return scalars, smallest

    def _warn(self, smallest: dict[str, float]) -> None:
        """Of masks that are, or stay, what they need not be."""
        flat = [name for name, least in smallest.items() if least >= FLAT]
        trained = [name for name, layer in self._layers.items() if _own(layer).requires_grad]
        still = [name for name in trained if name not in self._learned]
        said = []
        if flat:
            said.append(f'the masks of {shortened(flat)} are flat, all entries at least {FLAT}: these '
                        'layers are plain convolutions, and their sigmas get next to no gradient. '
                        'Start with a smaller init_sigma; a dynamic mask needs a normalised input')
        if still:
            said.append(f'no gradient has reached the masks of {shortened(still)}: they do not learn. '
                        'Does the loss depend on these layers?')
        if not trained:
            said.append('all masks are frozen (requires_grad=False): they do not learn')
        for text in said:
            MMLogger.get_current_instance().warning(f'SigmaLogHook: {text}')

    @master_only
    def after_train(self, runner: Runner) -> None:
        if not self._layers:
            return
        from ..visualization.mask_picture import mask_figure  # matplotlib, needed at the end only
        masks = describe_masks(_unwrapped(runner.model))
        folder = Path(runner.log_dir)
        title = f'{runner.experiment_name}: after {runner.iter} iterations'
        mask_figure(masks, title).savefig(folder / 'masks.png', dpi=130)
        with open(folder / 'masks.csv', 'w', newline='', encoding='utf-8') as file:
            write_csv([*masks, *stage_averages(masks)], file)


def _own(layer: GMConv2d) -> nn.Parameter:
    """What is followed of a layer: its sigma, or the predictor's bias."""
    return layer.sigma_predictor.b1 if layer.dynamic else layer.sigma


def _unwrapped(model: Any) -> nn.Module:
    return model.module if is_model_wrapper(model) else model
