"""What happens to the masks of frozen stages: a mixin for backbones with GMConv."""
from __future__ import annotations

import logging

from mmengine.logging import print_log

from ..layers import GMConv2d
from ..layers.find_layers import gm_layers
from ..messages import shortened
from .converted_backbone import ConvertedBackbone, stage_of


def check_freeze_masks(freeze_masks: bool) -> None:
    """Raise a ``ValueError`` for a ``freeze_masks`` that is neither ``True`` nor ``False``."""
    if not isinstance(freeze_masks, bool):
        raise ValueError(
            f'freeze_masks must be True or False, got {freeze_masks!r}: write freeze_masks=False '
            'to let the masks of frozen stages learn, or freeze_masks=True to keep them as the '
            'checkpoint brings them')


class FrozenMasks(ConvertedBackbone):
    """Mixin, before a backbone's class: masks of frozen stages learn, or are frozen with them.

    mmdet's backbones freeze all that a frozen stage holds, at every ``train()``. A mask frozen at
    its start never learns anything. So ``freeze_masks`` says what becomes of these masks:

    * ``False``: they learn, the stages' weights stay frozen.
    * ``True``: they are frozen with their stage. The paper's protocol: the checkpoint brings them
      trained.

    That is settled when the network is built, as DistributedDataParallel fixes there what gets
    gradients. From then on a mask's ``requires_grad`` is the user's: ``train()`` leaves it alone.

    A frozen layer is one whose weight is frozen.
    """

    def settle_frozen_masks(self, freeze_masks: bool) -> None:
        """To be called at the end of the constructor."""
        self.freeze_masks = freeze_masks
        for layer in gm_layers(self).values():
            layer.warns_of_plain_weights = False  # the network says it for all of them
        if not freeze_masks:
            for layer in self._frozen_layers().values():
                for parameter in layer.mask_parameters():
                    parameter.requires_grad_(True)

    def _frozen_layers(self) -> dict[str, GMConv2d]:
        return {name: layer for name, layer in gm_layers(self).items()
                if layer.kernel_is_frozen}

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        # PyTorch's and MMEngine's loaders call this before they come to the layers.
        layers = gm_layers(self)
        taken = [name for name, layer in layers.items()
                 if layer.takes_plain_weight(state_dict, f'{prefix}{name}.')]
        if taken:
            print_log(f'{len(taken)} of {len(layers)} GMConv layers take plain weights, divided by '
                      'the mask of init_sigma: the network computes what the plain one did '
                      '(gm_cfg=dict(preserve=False) copies weights as they are).',
                      logger='current')
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def train(self, mode: bool = True):
        """As the backbone's own, which freezes its stages again, but for the masks."""
        before = [(layer, layer.kernel_is_frozen,
                   [(parameter, parameter.requires_grad) for parameter in layer.mask_parameters()])
                  for layer in gm_layers(self).values()]
        super().train(mode)
        for layer, was_frozen, masks in before:
            if self.freeze_masks and layer.kernel_is_frozen and not was_frozen:
                continue  # some backbones freeze their stages at the first train() only
            for parameter, learns in masks:
                if parameter.requires_grad != learns:
                    parameter.requires_grad_(learns)
        return self

    def init_weights(self) -> None:
        """As :meth:`ConvertedBackbone.init_weights`; then says what became of frozen stages."""
        super().init_weights()
        if not getattr(self, 'start_weights_left_out', False):
            self.report_frozen_masks()

    def frozen_untrained_masks(self) -> list[str]:
        """Names of the GM layers in frozen stages whose masks still have their initial values and
        are frozen there."""
        return [name for name, layer in gm_layers(self).items() if layer.mask_is_initial()
                and not any(p.requires_grad for p in layer.mask_parameters())]

    def report_frozen_masks(self) -> None:
        """Log what becomes of the masks of frozen stages."""
        untrained = self.frozen_untrained_masks()
        fates: dict[str, dict[str, list[str]]] = {}
        for name, layer in self._frozen_layers().items():
            learns = any(parameter.requires_grad for parameter in layer.mask_parameters())
            fate = ('learn' if learns else 'are frozen untrained' if name in untrained else
                    'come trained and are frozen')
            fates.setdefault(stage_of(name), {}).setdefault(fate, []).append(name)
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
                'freeze_masks=False or frozen_stages=-1')
        print_log(f'Masks of frozen stages (frozen_stages={getattr(self, "frozen_stages", None)}, '
                  f'freeze_masks={self.freeze_masks!r}): {told}{advice}.',
                  logger='current', level=level)
