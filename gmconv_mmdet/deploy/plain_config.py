"""Configs without masks: of a folded detector, and of the plain twin of a training."""
from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import mmdet.registry
import mmengine.registry
from mmengine.config import Config, ConfigDict

from ..conversion.swap import KINDS
from ..openmmlab.plain_backbone import OUR_BACKBONES, plain_backbone, type_name

PACKAGE = __name__.partition('.')[0]
_MASK_HOOKS = ('SigmaLogHook', 'FoldGMConvHook')


def our_names() -> set[str]:
    """All names that this package has registered."""
    registries = [value for module in (mmengine.registry, mmdet.registry)
                  for value in vars(module).values()
                  if isinstance(value, mmengine.registry.Registry)]
    return {name for registry in registries for name, entry in registry.module_dict.items()
            if str(getattr(entry, '__module__', '')).partition('.')[0] == PACKAGE}


def names_in(node: Any) -> Iterator[str]:
    """Every bare type name in a config."""
    if isinstance(node, dict):
        yield type_name(node)
        node = node.values()
    elif not isinstance(node, (list, tuple)):
        return
    for value in node:
        yield from names_in(value)


def folded_config(cfg: Config, keep_dynamic: bool) -> Config:
    """The config of the folded model.

    * ``GMResNet`` becomes ``ResNet``; with a dynamic stem it stays, without GMConv in its stages.
    * ``GMBackbone`` and ``RefConvBackbone`` become the backbone within; a ``GMBackbone`` with a
      dynamic stem stays, without masks in the body.
    * ``conv_cfg=dict(type='GMConv', ...)`` becomes ``Conv2d`` unless it is dynamic; so does RefConv.
    * ``GMPretrained`` goes: the weights are in the checkpoint. ``FastCocoMetric`` becomes
      ``CocoMetric``, which prints the same numbers. Hooks of ours go: there is nothing to fold or
      log.
    * ``custom_imports`` loses this package if nothing of it is left.

    Args:
        cfg (Config): the trained model's; stays as it is.
        keep_dynamic (bool): dynamic layers stay.
    """
    content = _folded(cfg.to_dict(), keep_dynamic)
    ours = our_names()
    if 'custom_hooks' in content:
        content['custom_hooks'] = [hook for hook in content['custom_hooks']
                                   if type_name(hook) not in ours]
    imports = content.pop('custom_imports', None)
    if imports:
        modules = imports['imports']
        modules = [modules] if isinstance(modules, str) else modules
        if not ours & set(names_in(content)):
            modules = [name for name in modules if name.partition('.')[0] != PACKAGE]
        if modules:
            content['custom_imports'] = dict(imports, imports=modules)
    return Config(content)


def plain_twin(cfg: Config) -> Config:
    """A copy of ``cfg`` for the same training without masks and maps: as :func:`folded_config`, but
    ``conv_cfg`` goes, and ``GMPretrained`` stays, which loads plain networks too. Hooks that look
    after masks go. All else, optimizer and schedule included, stays as it is.

    Raises:
        ValueError: there is nothing of this package in the model.
    """
    twin = copy.deepcopy(cfg)
    before = cfg.to_dict()['model']
    model = _folded(before, keep_dynamic=False, twin=True)
    if model == before:
        raise ValueError('the config\'s model has no GMResNet, GMBackbone, RefConvBackbone, '
                         'GMConv or RefConv: it is its own plain twin. --config takes the '
                         'config with GMConv; with --against OTHER_CONFIG any two configs are compared')
    twin['model'] = ConfigDict(model)
    if twin.get('custom_hooks'):
        twin.custom_hooks = [hook for hook in twin.custom_hooks
                             if type_name(hook) not in _MASK_HOOKS]
    return twin


def _folded(node: Any, keep_dynamic: bool, twin: bool = False) -> Any:
    def goes(value: Any) -> bool:
        return not twin and type_name(value) == 'GMPretrained'

    if isinstance(node, (list, tuple)):
        return type(node)(_folded(item, keep_dynamic, twin) for item in node if not goes(item))
    if not isinstance(node, dict):
        return node
    node = {key: None if goes(value) else _folded(value, keep_dynamic, twin)
            for key, value in node.items()
            if not (twin and key == 'conv_cfg' and type_name(value) in KINDS)}
    kind = type_name(node)
    if kind in KINDS and not (keep_dynamic and node.get('dynamic')):
        return dict(type='Conv2d')
    if kind == 'FastCocoMetric':
        return dict(node, type='mmdet.CocoMetric')
    if kind not in OUR_BACKBONES:
        return node
    if (keep_dynamic and kind != 'RefConvBackbone'
            and node.get('gm_stem', 'dynamic') == 'dynamic'):
        return dict(node, **({'gm_body': None} if kind == 'GMBackbone' else
                             {'gm_stages': (False, ) * node.get('num_stages', 4)}))
    return plain_backbone(node)
