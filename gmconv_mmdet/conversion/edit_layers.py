"""Hyper-parameters of single layers changed in a network that is built already.

Most networks fix their stem in code. For images much smaller than those a network was designed for,
a smaller stem lets the receptive field grow more slowly (arXiv 2211.14487);
``gmconv_mmdet.advise_receptive_field`` proposes such changes.
"""
from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch.nn as nn
from torch.nn.modules.conv import _ConvNd

from ..layers import GMConv2d, RefConv2d

CHANGEABLE = ('kernel_size', 'stride', 'padding', 'dilation')


def edit_layers(model: nn.Module, edits: Mapping[str, Mapping[str, Any] | None],
                inplace: bool = False) -> nn.Module:
    """Change kernel, stride, padding or dilation of named layers, or take poolings out.

    Classes, module names, checkpoint keys and all weights stay, but for the weight of a layer whose
    kernel changes: it starts afresh by the layer's own ``reset_parameters`` (a bias with it) and is
    trained even where it was frozen, because no checkpoint fits it.

    ::

        model = edit_layers(timm.create_model('resnet18'),
                            {'conv1': dict(kernel_size=3, stride=1), 'maxpool': None})

    Args:
        model (nn.Module): any network.
        edits (dict): by module name, ``None`` to take a pooling out, or new values of a
            convolution's or pooling's ``kernel_size``, ``stride``, ``padding``, ``dilation``: an
            integer, or one for each axis. A new kernel size without ``padding`` is padded by half,
            unless the layer pads by ``'same'``.
        inplace (bool): change ``model`` itself instead of a copy.

    Returns:
        nn.Module: the changed network.

    Raises:
        ValueError: there is no such layer, it has no such hyper-parameter, or the value is no
            integer in range. Nothing is changed then.
    """
    checked = {name: _checked(model, name, values) for name, values in edits.items()}
    if not inplace:
        model = copy.deepcopy(model)
    for name, values in checked.items():
        if values is None:
            parent, _, child = name.rpartition('.')
            setattr(model.get_submodule(parent), child, nn.Identity())
        else:
            _change(model.get_submodule(name), values)
    return model


def _checked(model: nn.Module, name: str,
             values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The values in the form in which the layer keeps them, with the padding that follows."""
    try:
        layer = model.get_submodule(name)
    except AttributeError as error:
        raise ValueError(f'{type(model).__name__} has no layer {name!r} to edit; names are those of '
                         'named_modules()') from error
    if values is None:
        if not name or list(layer.parameters()) or not hasattr(layer, 'kernel_size'):
            raise ValueError(f'only a pooling layer can be taken out; {name!r} is {layer}')
        return None
    unknown = [key for key in values if key not in CHANGEABLE or not hasattr(layer, key)]
    if unknown:
        raise ValueError(f'{name} ({type(layer).__name__}) has no {", ".join(unknown)} to edit; '
                         f'known are {", ".join(CHANGEABLE)}')
    found = {key: _like(f'{key} of {name}', getattr(layer, key), value, key != 'padding')
             for key, value in values.items()}
    if 'kernel_size' in found:
        own_form = hasattr(layer, 'parametrizations') or isinstance(layer, RefConv2d)
        if own_form or (list(layer.parameters()) and not isinstance(layer, _ConvNd)):
            raise ValueError(f'{name} ({type(layer).__name__}) keeps its weight in a form of its '
                             'own: its kernel can\'t be changed')
        if 'padding' not in found and not isinstance(layer.padding, str):
            found['padding'] = _half(found['kernel_size'],
                                     found.get('dilation', getattr(layer, 'dilation', 1)))
    return found


def _like(what: str, old: Any, value: Any, positive: bool) -> Any:
    """``value`` as a tuple where the layer keeps one (convolutions; poolings keep numbers)."""
    numbers = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    axes = len(old) if isinstance(old, tuple) else 2
    if (len(numbers) not in (1, axes) or any(
            not isinstance(n, int) or isinstance(n, bool) or n < positive for n in numbers)):
        raise ValueError(f'{what} is an integer of at least {int(positive)}, or {axes} of them; '
                         f'got {value!r}')
    if len(numbers) == 1 and (isinstance(old, (tuple, str)) or isinstance(value, (list, tuple))):
        numbers *= axes
    return numbers if len(numbers) > 1 or isinstance(old, tuple) else numbers[0]


def _half(kernel: Any, dilation: Any) -> Any:
    if not isinstance(kernel, tuple):
        return dilation * (kernel - 1) // 2
    dilation = dilation if isinstance(dilation, tuple) else (dilation,) * len(kernel)
    return tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation))


def _change(layer: nn.Module, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        setattr(layer, key, value)
    if isinstance(layer, _ConvNd):
        layer._reversed_padding_repeated_twice = _both_sides(layer)
        if 'kernel_size' in values:
            old = layer.weight
            layer.weight = nn.Parameter(old.new_empty(*old.shape[:2], *layer.kernel_size))
            if isinstance(layer, GMConv2d) and layer.mask_parameters():
                layer._set_exponents()  # the mask has the kernel's size
            layer.reset_parameters()


def _both_sides(conv: Any) -> list[int]:
    """What ``nn.Conv2d`` keeps for the padding modes that it has no own operator for: the padding
    before and behind each axis, last axis first."""
    sides: list[int] = []
    for axis in reversed(range(len(conv.kernel_size))):
        total = conv.dilation[axis] * (conv.kernel_size[axis] - 1)
        before = (total // 2 if conv.padding == 'same' else
                  0 if conv.padding == 'valid' else conv.padding[axis])
        sides += [before, total - before if conv.padding == 'same' else before]
    return sides
