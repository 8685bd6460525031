"""What GMBackbone and RefConvBackbone share: a registered backbone, built, with other convolutions."""
from __future__ import annotations

import copy
import logging
from functools import lru_cache
from typing import Any

import torch.nn as nn
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.logging import print_log
from mmengine.model import BaseModule

from ..conversion.swap import spatial_convs
from ..openmmlab.start_weights import is_gm_pretrained, names_start_weights


class ConvertedBackbone(nn.Module):
    """Mixin, before a backbone's class: its convolutions are ours."""

    def train(self, mode: bool = True):
        """As the backbone's own, which may return nothing; returns ``self``."""
        super().train(mode)
        return self

    def init_weights(self) -> None:
        """As the backbone's own, ``GMPretrained`` last; then warns of frozen random weights."""
        if isinstance(self.init_cfg, (list, tuple)):
            self.init_cfg = sorted(self.init_cfg, key=is_gm_pretrained)
        super().init_weights()  # type: ignore[misc]  # of the backbone that this is mixed into
        if not getattr(self, 'start_weights_left_out', False):  # a resume: it was said at the start
            self._warn_of_random_frozen_weights()

    def _warn_of_random_frozen_weights(self) -> None:
        if names_start_weights(self):
            return
        stages = frozen_stages(self)
        if stages:
            print_log(
                f'Frozen at random weights (frozen_stages={getattr(self, "frozen_stages", None)}, '
                f'init_cfg without a checkpoint): {", ".join(stages)} never learn anything, unless '
                'load_from, resume or the whole detector\'s init_cfg brings weights. Give the '
                'backbone init_cfg=dict(type=\'GMPretrained\', checkpoint=...), or train it from '
                'scratch with frozen_stages=-1 and norm_eval=False.',
                logger='current', level=logging.WARNING)


def frozen_stages(backbone: nn.Module) -> list[str]:
    """Stages with frozen convolutions. A RefConv's basis is a buffer, always frozen; one that was
    never loaded is an error of its own."""
    return list(dict.fromkeys(
        stage_of(name) for name, layer in backbone.named_modules()
        if isinstance(layer, nn.Conv2d) and isinstance(layer.weight, nn.Parameter)
        and not layer.weight.requires_grad))


def stage_of(name: str) -> str:
    """``layer1.0.conv2`` is in the stage ``layer1``, ``conv1`` is a stage of its own."""
    return name.split('.')[0]


def build_plain(owner: str, backbone: dict,
                init_cfg: dict | list | None) -> tuple[BaseModule, str, list[str]]:
    """Build the backbone that ``owner``, a registered name of ours, is to convert.

    Args:
        owner (str): for errors.
        backbone (dict): config of a registered backbone, of the current scope (mmdet's where there
            is none).
        init_cfg (dict | list, optional): instead of the backbone's own.

    Returns:
        tuple: the network, the name of its first convolution larger than 1x1, those of the others.

    Raises:
        ValueError: a backbone with convolutions of ours or without any larger than 1x1, or
            ``init_cfg`` is given twice.
        TypeError: the backbone is no ``BaseModule``.
    """
    if init_cfg is not None and backbone.get('init_cfg') is not None:
        raise ValueError(f'init_cfg is given twice, for {owner} and for the backbone: keep one')
    # In the current scope, where there is none in mmdet's. mmdet takes keys out of `dcn`: from a copy.
    network = MMDET_MODELS.build(copy.deepcopy(backbone))
    if isinstance(network, ConvertedBackbone):
        raise ValueError(
            f'{owner} takes a plain backbone and places its layers itself, but '
            f'{backbone["type"]} places its own: write backbone=dict(type=\'ResNet\', ...), or take '
            f'{backbone["type"]} itself as the backbone, without {owner} around it')
    if not isinstance(network, BaseModule):
        raise TypeError(f'{owner} takes backbones derived from mmengine.model.BaseModule, not '
                        f'{type(network).__name__}')
    if init_cfg is not None:
        network.init_cfg = init_cfg
    stem, *body = spatial_convs(network) or [None]
    if stem is None:
        raise ValueError(f'{type(network).__name__} has no plain convolution larger than 1x1')
    return network, stem, body


class _Subclassed:
    """Lets a network of a class made on the spot be copied and pickled, by its original class."""

    def __reduce_ex__(self, protocol: Any) -> tuple:
        _, mixin, network_class = type(self).__bases__
        return _restore, (network_class, mixin, type(self).__name__), self.__dict__


def _restore(network_class: type, mixin: type, name: str) -> nn.Module:
    cls = subclass(network_class, mixin, name)
    return cls.__new__(cls)


@lru_cache(maxsize=None)
def subclass(network_class: type, mixin: type, name: str) -> type:
    """The subclass ``name`` of a backbone's class with ``mixin`` before it."""
    return type(network_class)(name, (_Subclassed, mixin, network_class),
                               dict(__module__=__name__, __doc__=network_class.__doc__))
