"""The convolutions of a network: which can become GMConv or RefConv, and why the others can't."""
from __future__ import annotations

import re
from typing import cast

import torch.nn as nn
from torch.nn.utils.parametrize import is_parametrized

# Subclasses that compute what nn.Conv2d does: mmcv's wrapper differs for empty inputs only, which
# torch handles by now.
PLAIN_SUBCLASSES = ('mmcv.cnn.bricks.wrappers.Conv2d', )
# Those that pad their input as TensorFlow does (padding='SAME') and are nn.Conv2d otherwise. timm
# had its layers in timm.models before 0.9.
SAME_PADDED = ('timm.layers.conv2d_same.Conv2dSame', 'timm.models.layers.conv2d_same.Conv2dSame',
               'mmcv.cnn.bricks.conv2d_adaptive_padding.Conv2dAdaptivePadding')
_STATE_HOOKS = ('_state_dict_hooks', '_state_dict_pre_hooks', '_load_state_dict_pre_hooks',
                '_load_state_dict_post_hooks')


def is_same_padded(module: nn.Module) -> bool:
    """Whether ``module`` is one of :data:`SAME_PADDED`."""
    return _full_name(type(module)) in SAME_PADDED


def is_plain_conv(module: nn.Module) -> bool:
    """Whether ``module`` is ``nn.Conv2d``, or a subclass that does nothing more than to pad."""
    return (type(module) is nn.Conv2d or is_same_padded(module)
            or _full_name(type(module)) in PLAIN_SUBCLASSES)


def _full_name(cls: type) -> str:
    return f'{cls.__module__}.{cls.__qualname__}'


def find_convs(module: nn.Module) -> dict[str, str]:
    """All layers of ``module`` with a kernel and a weight, each once, in the order in which they
    are registered (in the usual networks: the order in which they run).

    Those inside another kind of convolution, as a deformable one's offset branch, belong to it and
    are left out.

    Returns:
        dict[str, str]: dotted name -> why the layer can't become GMConv or RefConv, ``''`` where it
        can.
    """
    owners: dict[int, list[str]] = {}
    for name, owner in module.named_modules():
        for parameter in owner._parameters.values():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append(name)
    found: dict[str, str] = {}
    for name, layer in module.named_modules():
        if not (hasattr(layer, 'kernel_size') and hasattr(layer, 'weight')):
            continue  # mmcv's ConvModule has a kernel_size, but no weight
        if any(not outer or name.startswith(f'{outer}.') for outer in found):
            continue
        why = _why_unfit(layer)
        others = [other for other in owners.get(id(layer.weight), ()) if other != name]
        found[name] = why or (f'shares its weight with {", ".join(others)}' if others else '')
    return found


def spatial_convs(module: nn.Module) -> list[str]:
    """Names of the convolutions in ``module`` that can become GMConv or RefConv: see
    :func:`find_convs`."""
    return [name for name, why_not in find_convs(module).items() if not why_not]


def _why_unfit(layer: nn.Module) -> str:
    name = type(layer).__name__
    if is_parametrized(layer):
        return f'its weight is parametrized ({name})'
    if not is_plain_conv(layer):
        kind = ('deformable' if 'Deform' in name else
                'weight-standardised' if re.search('Std|WS', name) else
                'no plain 2-d convolution')
        return f'{kind} ({name})'
    conv = cast(nn.Conv2d, layer)
    if conv.kernel_size == (1, 1):
        return '1x1'
    if {*conv._parameters, *conv._buffers, *conv._modules} != {'weight', 'bias'}:
        return 'its weight is computed from other tensors (weight_norm, pruning, ...)'
    if 'forward' in vars(conv) or '_conv_forward' in vars(conv):
        return 'its forward was replaced'
    if any(getattr(conv, hooks, None) for hooks in _STATE_HOOKS):
        return 'hooks change its state dict'
    if not conv.weight.is_floating_point():
        return f'its weight is {conv.weight.dtype}'
    return ''
