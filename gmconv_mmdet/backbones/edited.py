"""Any registered backbone with a hyper-parameter of single layers changed.

Most backbones fix their stem in code: mmdet's ResNet always starts with a 7x7 convolution of stride
2 and a max pooling. ``EditedBackbone`` opens that to a config, for networks on images much smaller
than those a backbone was designed for (arXiv 2211.14487)::

    backbone=dict(
        type='EditedBackbone',
        edits=dict(conv1=dict(kernel_size=3, stride=1), maxpool=None),
        backbone=dict(type='ResNet', depth=18, ...))

The result is the backbone itself: its class, its module names and its checkpoint keys stay.
"""
from __future__ import annotations

from typing import Any, Mapping

import torch
import torch.nn as nn
from mmengine.registry import MODELS

CHANGEABLE = ('kernel_size', 'stride', 'padding', 'dilation')


@MODELS.register_module('EditedBackbone')
def edited_backbone(backbone: dict, edits: Mapping[str, Mapping[str, Any] | None]) -> nn.Module:
    """Build ``backbone`` and change its layers.

    Args:
        backbone: config of a registered backbone.
        edits: by module name, ``None`` to take a pooling layer out, or new values of a
            convolution's or pooling's ``kernel_size``, ``stride``, ``padding``, ``dilation``. A new
            kernel size without ``padding`` is padded by half. Its weights start afresh and are
            trained even where
            the layer was frozen: no checkpoint fits them.

    Raises:
        ValueError: if there is no such layer, or it has no such parameter.
    """
    model = MODELS.build(backbone)
    for name, values in edits.items():
        try:
            layer = model.get_submodule(name)
        except AttributeError as error:
            raise ValueError(f'{type(model).__name__} has no layer {name!r} to edit') from error
        if values is None:
            _take_out(model, name, layer)
        else:
            _change(name, layer, values)
    return model


def _take_out(model: nn.Module, name: str, layer: nn.Module) -> None:
    if list(layer.parameters()) or not hasattr(layer, 'kernel_size'):
        raise ValueError(f'only a pooling layer can be taken out; {name} is {layer}')
    parent, _, child = name.rpartition('.')
    setattr(model.get_submodule(parent), child, nn.Identity())


def _change(name: str, layer: nn.Module, values: Mapping[str, Any]) -> None:
    unknown = [key for key in values if key not in CHANGEABLE or not hasattr(layer, key)]
    if unknown:
        raise ValueError(f'{name} ({type(layer).__name__}) has no {", ".join(unknown)} to edit; '
                         f'known are {", ".join(CHANGEABLE)}')
    values = {key: _like(getattr(layer, key), value) for key, value in values.items()}
    if 'kernel_size' in values and 'padding' not in values:
        dilation = values.get('dilation', getattr(layer, 'dilation', 1))
        values['padding'] = _half(values['kernel_size'], dilation)
    for key, value in values.items():
        setattr(layer, key, value)
    if 'kernel_size' in values and getattr(layer, 'weight', None) is not None:
        old = layer.weight
        layer.weight = nn.Parameter(torch.empty(
            *old.shape[:2], *_like((0, 0), layer.kernel_size), dtype=old.dtype, device=old.device))
        layer.reset_parameters()


def _like(old: Any, value: Any) -> Any:
    """``value`` as a pair where the layer keeps pairs (convolutions; pooling keeps numbers)."""
    if isinstance(value, (list, tuple)):
        return tuple(value)
    return (value, value) if isinstance(old, tuple) else value


def _half(kernel: Any, dilation: Any) -> Any:
    if isinstance(kernel, tuple):
        return tuple(d * (k - 1) // 2 for k, d in zip(kernel, _like((1, 1), dilation)))
    return (kernel - 1) // 2
