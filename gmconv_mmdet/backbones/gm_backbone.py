"""Any registered backbone with Gaussian Mask or refocusing convolutions."""
from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch.nn as nn
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.model import BaseModule
from mmengine.registry import MODELS

from ..conversion.convert import within
from ..conversion.swap import check_gm_stem, layer_options, spatial_convs, swap
from .argument_names import refuse_unknown
from .frozen_masks import FrozenMasks, check_freeze_masks

GM_BODIES = ('static', None)
ARGUMENTS = ('backbone', 'kind', 'gm_stem', 'gm_body', 'gm_cfg', 'freeze_masks', 'init_cfg')


@MODELS.register_module()
def GMBackbone(  # noqa: N802  (a config's `type` reads like a class)
        backbone: dict,
        *,
        kind: str = 'GMConv',
        gm_stem: str | bool | None = 'dynamic',
        gm_body: str | bool | None | Sequence[str] = 'static',
        gm_cfg: dict | None = None,
        freeze_masks: bool = False,
        init_cfg: dict | list | None = None,
        **unknown) -> nn.Module:
    """Build ``backbone`` and make its convolutions larger than 1x1 GMConv (or RefConv).

    The stem is the first of them, the body all others; the paper makes the first dynamic and the
    rest static (arXiv 2302.04544, sections III and IV-A). The result is the backbone itself with
    other convolutions: its attributes, its parameters' names and its checkpoints' keys stay, only
    sigmas are new, and what wraps or hooks the backbone works as before. Its class is a subclass
    made on the spot, ``GMResNeXt`` of ``ResNeXt``, that looks after the masks of frozen stages.

    Args:
        backbone (dict): config of a registered backbone derived from MMEngine's ``BaseModule``, of
            the current scope (mmdet's where there is none); of another with the scope's name:
            ``type='mmpretrain.MobileNetV2'``.
        kind ('GMConv' | 'RefConv' | 'GMRefConv'): what the convolutions become, see
            :class:`GMResNet`.
        gm_stem ('dynamic' | 'static' | None): mask of the first convolution. For RefConv, which has
            no masks: True or None.
        gm_body ('static' | None | Sequence[str]): mask of the others. A sequence of names of
            modules, or patterns as of a shell, makes those of them static that match or lie in a
            module that does: ``['layer1']``. ``True`` and ``False``
            are read as ``'static'`` and ``None``. For RefConv: True, None or names.
        gm_cfg (dict, optional): further arguments of every layer, see :class:`GMResNet`.
        freeze_masks (bool): whether masks of frozen stages are frozen with them, see
            :class:`FrozenMasks`.
        init_cfg (dict | list, optional): instead of the backbone's own; for those, too, which take
            no such argument.

    Raises:
        ValueError: an argument outside its range, a name in ``gm_body`` without convolutions, or a
            backbone that places masks itself.
        TypeError: the backbone is no ``BaseModule``, or there is no such argument.
    """
    refuse_unknown('GMBackbone', unknown, ARGUMENTS,
                   dict(gm_stages='name the stages in gm_body, as in gm_body=[\'layer1\']'),
                   'what the network takes belongs in backbone=dict(type=..., ...). ')
    gm_cfg = dict(gm_cfg or {})
    check_gm_stem(gm_stem, gm_cfg, kind)
    if kind == 'RefConv' and gm_body == 'static':
        raise ValueError('gm_body must be True, None or names of modules with kind=\'RefConv\', '
                         'which has no masks, got \'static\'')
    if isinstance(gm_body, bool):
        gm_body = 'static' if gm_body else None
    if gm_body not in GM_BODIES and (isinstance(gm_body, str) or not isinstance(gm_body, Sequence)):
        raise ValueError(f'gm_body must be one of {GM_BODIES} or names of modules, got {gm_body!r}')
    check_freeze_masks(freeze_masks)
    if init_cfg is not None and backbone.get('init_cfg') is not None:
        raise ValueError('init_cfg is given twice, for GMBackbone and for the backbone: keep one')
    network = MMDET_MODELS.build(backbone)  # in the current scope, where there is none in mmdet's
    if isinstance(network, FrozenMasks):
        raise ValueError(
            'GMBackbone takes a plain backbone and places the masks itself, but '
            f'{backbone["type"]} places its own: write backbone=dict(type=\'ResNet\', ...), or take '
            f'{backbone["type"]} itself as the backbone, without GMBackbone around it')
    if not isinstance(network, BaseModule):
        raise TypeError(f'GMBackbone takes backbones derived from mmengine.model.BaseModule, not '
                        f'{type(network).__name__}')
    if init_cfg is not None:
        network.init_cfg = init_cfg
    stem, *body = spatial_convs(network) or [None]
    if stem is None:
        raise ValueError(f'{type(network).__name__} has no plain convolution larger than 1x1')
    if gm_stem:
        swap(network, [stem], **layer_options(kind, gm_stem, gm_cfg))
    if gm_body is not None:
        chosen = body if gm_body == 'static' else within(body, gm_body, 'gm_body')
        swap(network, chosen, **layer_options(kind, 'static', gm_cfg))
    network.__class__ = _with_frozen_masks(type(network))
    network.settle_frozen_masks(freeze_masks)
    return network


class _Subclassed:
    """Lets a network of a class made on the spot be copied and pickled, by its original class."""

    def __reduce_ex__(self, protocol: int) -> tuple:
        return _restore, (type(self).__bases__[-1], ), self.__dict__


def _restore(network_class: type) -> nn.Module:
    gm_class = _with_frozen_masks(network_class)
    return gm_class.__new__(gm_class)


@lru_cache(maxsize=None)
def _with_frozen_masks(network_class: type) -> type:
    return type(network_class)(f'GM{network_class.__name__}',
                               (_Subclassed, FrozenMasks, network_class),
                               dict(__module__=__name__, __doc__=network_class.__doc__))
