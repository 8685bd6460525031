"""The plain twin of a config: the same training with plain convolutions."""
from __future__ import annotations

import copy
from typing import Any

from mmengine.config import Config, ConfigDict

from ...openmmlab.plain_backbone import OUR_BACKBONES, plain_backbone, type_name

GM_LAYERS = ('GMConv', 'RefConv')
GM_HOOKS = ('SigmaLogHook', 'FoldGMConvHook')


def plain_twin(cfg: Config) -> Config:
    """A copy of ``cfg`` without masks and maps: ``GMResNet`` becomes mmdet's ``ResNet``,
    ``GMBackbone`` and ``RefConvBackbone`` the backbone in them, ``conv_cfg=dict(type='GMConv')`` (or
    ``RefConv``) goes, wherever in the model they stand. ``GMPretrained`` stays: it loads plain
    networks too. Hooks that look after masks go. All else, optimizer and schedule included, stays as it is.

    Raises:
        ValueError: there is nothing of this package in the model.
    """
    twin = copy.deepcopy(cfg)
    model = _plain(twin.model)
    if model == twin.model:
        raise ValueError('the config\'s model has no GMResNet, GMBackbone, RefConvBackbone, '
                         'GMConv or RefConv: it is its own plain twin. --config takes the '
                         'config with GMConv; with --against OTHER_CONFIG any two configs are compared')
    twin['model'] = ConfigDict(model)
    if twin.get('custom_hooks'):
        twin.custom_hooks = [hook for hook in twin.custom_hooks
                             if type_name(hook) not in GM_HOOKS]
    return twin


def _plain(node: Any) -> Any:
    if isinstance(node, (list, tuple)):
        return type(node)(_plain(child) for child in node)
    if not isinstance(node, dict):
        return node
    plain = type(node)((key, _plain(value)) for key, value in node.items()
                       if not (key == 'conv_cfg' and type_name(value) in GM_LAYERS))
    return type(node)(plain_backbone(plain)) if type_name(plain) in OUR_BACKBONES else plain
