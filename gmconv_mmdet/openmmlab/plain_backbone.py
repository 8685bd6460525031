"""The plain backbone in a config of ours, told from the config alone."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Arguments of ours that a plain backbone does not have.
GM_ARGUMENTS = ('gm_stem', 'gm_stages', 'gm_body', 'gm_cfg', 'freeze_masks')
OUR_BACKBONES = ('GMResNet', 'GMBackbone', 'RefConvBackbone')


def type_name(node: Any) -> str:
    """The bare name in a config's ``type``: of ``'mmdet.ResNet'`` or the class it is
    ``'ResNet'``; ``''`` of anything else."""
    kind = node.get('type') if isinstance(node, Mapping) else None
    return kind.rpartition('.')[2] if isinstance(kind, str) else getattr(kind, '__name__', '')


def plain_backbone(node: Mapping) -> dict:
    """The config of the backbone without layers of ours.

    ``GMResNet`` becomes ``ResNet``, ``GMBackbone`` and ``RefConvBackbone`` the backbone in them,
    written as ``backbone=dict(type='CSPDarknet', ...)`` or beside ``base='CSPDarknet'``; any other
    backbone is returned as a copy. Nothing below the arguments is copied.
    """
    kind = type_name(node)
    if isinstance(node.get('backbone'), Mapping) and kind in OUR_BACKBONES:
        inner = dict(node['backbone'])
        if node.get('init_cfg') is not None:
            inner['init_cfg'] = node['init_cfg']
        return inner
    plain = dict(node)
    if kind == 'GMResNet':
        plain['type'] = 'mmdet.ResNet' if str(node['type']).startswith('mmdet.') else 'ResNet'
    elif kind == 'GMBackbone' and 'base' in node:
        plain['type'] = plain.pop('base')
    else:
        return plain
    return {key: value for key, value in plain.items() if key not in GM_ARGUMENTS}
