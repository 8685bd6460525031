"""What happens to the masks of frozen stages: a mixin for backbones with GMConv."""
from __future__ import annotations

import logging

import torch.nn as nn
from mmengine.dist import is_distributed
from mmengine.logging import print_log

from ..layers import GMConv2d, redrawing
from ..weights.load_report import shortened
from ..weights.pretrained import gm_layers
from ..weights.trained_masks import is_gm_pretrained, trained_masks

FREEZE_MASKS = (True, False, 'auto')


def check_freeze_masks(freeze_masks: bool | str) -> None:
    """Raise a ``ValueError`` for a ``freeze_masks`` that is none of :data:`FREEZE_MASKS`."""
    if freeze_masks not in FREEZE_MASKS:
        raise ValueError(f'freeze_masks must be one of {FREEZE_MASKS}, got {freeze_masks!r}')


class FrozenMasks(nn.Module):
    """Mixin, before a backbone's class: freezes masks of frozen stages, or lets them learn.

    mmdet's backbones freeze all that a frozen stage holds, at every ``train()``. A mask frozen at
    its start never learns anything, so that ``freeze_masks`` can except the masks:

    * ``True``: masks are frozen with their stage.
    * ``False``: masks of frozen stages go on learning, the stages' weights stay frozen.
    * ``'auto'``: masks that come trained from the checkpoint in ``init_cfg`` are frozen, the others
      go on learning. That is settled when the network is built, from the file, so that it holds
      under DistributedDataParallel and is the same after a resume. Where the checkpoint is a link,
      one process settles it once it is downloaded; several let the masks learn and warn.

    A frozen layer is one whose weight (of a refocused kernel: whose map) was frozen when the
    network was built.
    """

    def settle_frozen_masks(self, freeze_masks: bool | str) -> None:
        """To be called at the end of the constructor."""
        self.freeze_masks = freeze_masks
        frozen = self._frozen_layers()
        trained = set(frozen) if freeze_masks is True else set()
        if freeze_masks == 'auto' and frozen:
            trained = trained_masks(self.init_cfg, frozen, self.state_dict(), is_distributed())
        self._masks_undecided = trained is None
        self._learning_masks = [name for name in frozen if name not in (trained or ())]
        self._set_masks_learning(self._learning_masks, True)

    def _frozen_layers(self) -> dict[str, GMConv2d]:
        return {name: layer for name, layer in gm_layers(self).items()
                if layer.kernel_is_frozen}

    def _set_masks_learning(self, names: list[str], learning: bool) -> None:
        layers = gm_layers(self)  # without those that were folded since
        for name in filter(layers.__contains__, names):
            for parameter in layers[name].mask_parameters():
                parameter.requires_grad_(learning)

    def train(self, mode: bool = True):
        """As the backbone's own, which may return nothing and freezes its stages again; returns
        ``self``, as ``nn.Module`` does."""
        super().train(mode)
        self._set_masks_learning(self._learning_masks, True)
        return self

    def init_weights(self) -> None:
        """As the backbone's own, ``GMPretrained`` last; then says what became of frozen masks."""
        if isinstance(self.init_cfg, (list, tuple)):
            self.init_cfg = sorted(self.init_cfg, key=is_gm_pretrained)
        with redrawing(self):
            super().init_weights()
        if self._masks_undecided and not is_distributed():
            self._masks_undecided = False
            trained = [name for name in self._learning_masks
                       if not self.get_submodule(name).mask_is_initial()]
            self._learning_masks = [name for name in self._learning_masks if name not in trained]
            self._set_masks_learning(trained, False)
        self._report_frozen_masks()

    def frozen_untrained_masks(self) -> list[str]:
        """Names of the GM layers in frozen stages whose masks still have their initial values and
        are frozen there."""
        return [name for name, layer in gm_layers(self).items() if layer.mask_is_initial()
                and not any(p.requires_grad for p in layer.mask_parameters())]

    def _report_frozen_masks(self) -> None:
        untrained = self.frozen_untrained_masks()
        fates: dict[str, dict[str, list[str]]] = {}
        for name in self._frozen_layers():
            fate = ('go on learning' if name in self._learning_masks else
                    'are frozen untrained' if name in untrained else 'come trained and are frozen')
            # `layer1.0.conv2` is in the stage `layer1`, `conv1` is a stage of its own.
            fates.setdefault(name.split('.')[0], {}).setdefault(fate, []).append(name)
        if not fates:
            return
        told = '; '.join(
            f'{stage}: ' + ', '.join(f'{len(names)} {fate}' for fate, names in by_fate.items())
            for stage, by_fate in fates.items())
        level, advice = logging.INFO, ''
        if untrained:
            level, advice = logging.WARNING, (
                f'. These masks were never trained: {shortened(untrained, 8)}. Their layers stay '
                'as good as plain convolutions. Start from a checkpoint with trained masks, or set '
                'freeze_masks=\'auto\' or frozen_stages=-1')
        elif self._masks_undecided:
            level, advice = logging.WARNING, (
                '. Whether the checkpoint brings trained masks could not be known before the '
                'processes were joined, so that the masks learn: download it and give its path, or '
                'set freeze_masks=True')
        print_log(f'Masks of frozen stages (frozen_stages={getattr(self, "frozen_stages", None)}, '
                  f'freeze_masks={self.freeze_masks!r}): {told}{advice}.',
                  logger='current', level=level)
