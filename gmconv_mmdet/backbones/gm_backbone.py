"""Any registered backbone with Gaussian Mask convolutions."""
from __future__ import annotations

from collections.abc import Sequence

import torch.nn as nn
from mmengine.registry import MODELS

from ..conversion.convert import within
from ..conversion.swap import check_gm_stem, swap
from .argument_names import NO_KIND, refuse_unknown
from .converted_backbone import build_plain, subclass
from .frozen_masks import FrozenMasks, check_freeze_masks

GM_BODIES = ('static', None)
ARGUMENTS = ('base', 'backbone', 'gm_stem', 'gm_body', 'gm_cfg', 'freeze_masks', 'init_cfg')


@MODELS.register_module()
def GMBackbone(  # noqa: N802  (a config's `type` reads like a class)
        backbone: dict | None = None,
        *,
        base: str | type | None = None,
        gm_stem: str | None = 'dynamic',
        gm_body: str | bool | None | Sequence[str] = 'static',
        gm_cfg: dict | None = None,
        freeze_masks: bool = False,
        **arguments) -> nn.Module:
    """Build a registered backbone and make its convolutions larger than 1x1 GMConv.

    The stem is the first of them, the body all others; the paper makes the first dynamic and the
    rest static (arXiv 2302.04544, sections III and IV-A). The result is the backbone itself with
    other convolutions: its attributes, its parameters' names and its checkpoints' keys stay, only
    sigmas are new, and what wraps or hooks the backbone works as before. Its class is a subclass
    made on the spot, ``GMResNeXt`` of ``ResNeXt``, that looks after the masks of frozen stages.

    In a config one line changes: ``type='CSPDarknet'`` becomes ``type='GMBackbone',
    base='CSPDarknet'``, and the backbone's arguments stay beside it. ``backbone=dict(...)`` is the
    same with the arguments in a dict of their own.

    Args:
        backbone (dict, optional): config of a backbone as for ``base``.
        base (str | type, optional): name of a registered backbone derived from MMEngine's
            ``BaseModule``, of the current scope (mmdet's where there is none); of another with the
            scope's name: ``'mmpretrain.MobileNetV2'``.
        gm_stem ('dynamic' | 'static' | None): mask of the first convolution.
        gm_body ('static' | None | Sequence[str]): mask of the others. A sequence of names of
            modules, or patterns as of a shell, makes those of them static that match or lie in a
            module that does: ``['layer1']``. ``True`` and ``False`` are read as ``'static'`` and
            ``None``.
        gm_cfg (dict, optional): further arguments of every layer, see :class:`GMResNet`.
        freeze_masks (bool): whether masks of frozen stages are frozen with them, see
            :class:`FrozenMasks`.
        **arguments: beside ``base`` the backbone's own, ``init_cfg`` too. Beside ``backbone`` only
            ``init_cfg``, instead of the backbone's own; for those, too, which take no such argument.

    Raises:
        ValueError: an argument outside its range, ``base`` and ``backbone`` at once or neither, a
            name in ``gm_body`` without convolutions, or a backbone that places masks itself.
        TypeError: the backbone is no ``BaseModule``, or there is no such argument.
    """
    if (base is None) == (backbone is None):
        given = 'neither' if base is None else f'both, base={base!r} and backbone={backbone!r}'
        raise ValueError('GMBackbone takes base=\'ResNet\' with the network\'s arguments beside it, or '
                         f'backbone=dict(type=\'ResNet\', ...): one of the two, got {given}')
    ours = [name for name in arguments if base is None or name.startswith('gm_')]
    refuse_unknown('GMBackbone', ours, ARGUMENTS,
                   dict(gm_stages='name the stages in gm_body, as in gm_body=[\'layer1\']',
                        kind=NO_KIND),
                   'what the network takes belongs in backbone=dict(type=..., ...), or beside '
                   'base=... instead of it. ')
    if base is not None:
        backbone, arguments = dict(arguments, type=base), {}
    gm_cfg = dict(gm_cfg or {})
    check_gm_stem(gm_stem, gm_cfg)
    if isinstance(gm_body, bool):
        gm_body = 'static' if gm_body else None
    if gm_body not in GM_BODIES and (isinstance(gm_body, str) or not isinstance(gm_body, Sequence)):
        raise ValueError(f'gm_body must be one of {GM_BODIES} or names of modules, got {gm_body!r}')
    check_freeze_masks(freeze_masks)
    network, stem, body = build_plain('GMBackbone', backbone, arguments.get('init_cfg'))
    if gm_stem:
        swap(network, [stem], dynamic=gm_stem == 'dynamic', **gm_cfg)
    if gm_body is not None:
        chosen = body if gm_body == 'static' else within(body, gm_body, 'gm_body')
        swap(network, chosen, dynamic=False, **gm_cfg)
    network.__class__ = subclass(type(network), FrozenMasks, f'GM{type(network).__name__}')
    network.settle_frozen_masks(freeze_masks)
    return network
