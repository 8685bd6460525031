"""The plain twin of a config: the same training with plain convolutions."""
from __future__ import annotations

import copy
from typing import Any

from mmengine.config import Config, ConfigDict

# Arguments that mmdet's ResNet does not have, and layers and hooks of this package.
GM_ARGUMENTS = ('gm_stem', 'gm_stages', 'gm_cfg', 'freeze_masks')
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
                             if _name(hook) not in GM_HOOKS]
    return twin


def _name(node: Any) -> str:
    """The class in a config's dict, without its scope."""
    kind = node.get('type') if isinstance(node, dict) else None
    return (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).split('.')[-1]


def _plain(node: Any) -> Any:
    if isinstance(node, (list, tuple)):
        return type(node)(_plain(child) for child in node)
    if not isinstance(node, dict):
        return node
    if _name(node) in ('GMBackbone', 'RefConvBackbone'):
        inner = _plain(node['backbone'])
        if node.get('init_cfg') is not None:
            inner['init_cfg'] = node['init_cfg']
        return inner
    plain = type(node)((key, _plain(value)) for key, value in node.items()
                       if not (key == 'conv_cfg' and _name(value) in GM_LAYERS))
    if _name(node) == 'GMResNet':
        for key in GM_ARGUMENTS:
            plain.pop(key, None)
        plain['type'] = 'ResNet'
    return plain
