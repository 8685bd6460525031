"""The exchange of plain convolutions for GMConv or RefConv.

It happens after a network is built: a ``conv_cfg`` would reach its 1x1 convolutions too
and can't stand beside DCN in mmdet's blocks, and a subclassed block would lose mmdet's zero
initialisation. Names, weights and block classes stay as they are.
"""
from __future__ import annotations

from typing import Any, Mapping

import torch.nn as nn

from ..layers import GMConv2d, RefConv2d
from ..layers.conv_arguments import conv_arguments
from .find_convs import is_plain_conv, is_same_padded, spatial_convs
from .same_padding import WITH_SAME_PADDING, SamePadded

__all__ = ['KINDS', 'become', 'check_gm_stem', 'converted', 'is_plain_conv', 'spatial_convs', 'swap']

KINDS = {'GMConv': GMConv2d, 'RefConv': RefConv2d}
GM_STEMS = ('dynamic', 'static', None)


def check_gm_stem(gm_stem: str | None, gm_cfg: Mapping[str, Any]) -> None:
    """Raise a ``ValueError`` that names the rule and the value for a stem that there is not, or for
    ``gm_cfg`` with a second opinion on it."""
    if gm_stem not in GM_STEMS:
        raise ValueError(f'gm_stem must be one of {GM_STEMS}, got {gm_stem!r}')
    if 'dynamic' in gm_cfg:
        raise ValueError('gm_cfg must not hold "dynamic": gm_stem says what the stem is, and all '
                         'else is static')


def converted(conv: nn.Conv2d, kind: str = 'GMConv', trained: bool = False, **options: Any) -> nn.Conv2d:
    """A layer of ours that takes over the arguments and the very parameters of ``conv``.

    Args:
        conv (nn.Conv2d): its weight is shared, not copied; RefConv's basis shares its numbers.
        kind ('GMConv' | 'RefConv'): of layer.
        trained (bool): the weight holds what a network learned, so that a RefConv may be trained on
            it. A network that was only just built has to load its weights first.
        **options: further arguments of the layer.

    Raises:
        ValueError: an option outside its range, or a frozen convolution whose map, frozen with it,
            would stay at random numbers.
    """
    layer_class = KINDS[kind]
    if is_same_padded(conv):
        layer_class = WITH_SAME_PADDING[layer_class]
    layer: GMConv2d | RefConv2d = layer_class(
        **conv_arguments(conv), device=conv.weight.device, dtype=conv.weight.dtype, **options)
    if isinstance(layer, SamePadded):
        layer.folds_to = type(conv)
    layer.bias = conv.bias
    learns = conv.weight.requires_grad  # a frozen layer's mask and map are frozen with it
    if isinstance(layer, RefConv2d) and layer.convmap is not None:
        if not learns and layer.convmap.init == 'paper':
            raise ValueError(
                'a frozen convolution can\'t be refocused with init=\'paper\': its map would stay '
                'at the random numbers it starts from. Leave the layers of frozen stages plain, or '
                'set init=\'identity\', or frozen_stages=-1')
        layer.weight = conv.weight.detach()
        layer.convmap.weight.requires_grad_(learns)
        if trained:
            layer.settle_basis()
    else:
        layer.weight = conv.weight
    if isinstance(layer, GMConv2d):
        for parameter in layer.mask_parameters():
            parameter.requires_grad_(learns)
    return layer.train(conv.training)


def become(conv: nn.Module, layer: nn.Conv2d) -> None:
    """Turn a convolution into the layer that :func:`converted` made of it.

    It stays the same object under another class: its hooks, attributes and places in the network
    (two of them, perhaps, or a Python list) stay without anybody looking for them.
    """
    tables = '_parameters', '_buffers', '_modules', '_non_persistent_buffers_set'
    vars(conv).update((name, value) for name, value in vars(layer).items()
                      if name in tables or name not in vars(conv))
    conv.__class__ = type(layer)


def swap(module: nn.Module, names: list[str], kind: str = 'GMConv', **options: Any) -> None:
    """Replace the named convolutions of ``module`` by layers of ours, in place.

    Args:
        module (nn.Module): the network, or a part of it.
        names (list[str]): dotted names below ``module``, as from :func:`spatial_convs`.
        kind ('GMConv' | 'RefConv'): of layer.
        **options: as of :func:`converted`: ``dynamic`` and ``init_sigma`` of GMConv, ``init`` of
            RefConv, ``trained`` ...

    Raises:
        ValueError: no convolution, or as of :func:`converted`, with the layer's name; nothing is
            replaced then.
    """
    layers = {}
    for name in names:
        conv = module.get_submodule(name)
        if not isinstance(conv, nn.Conv2d):
            raise ValueError(f'{name} is a {type(conv).__name__} and no convolution: give names as '
                             'spatial_convs(module) lists them')
        try:
            layers[name] = converted(conv, kind, **options)
        except ValueError as error:
            raise ValueError(f'{name}: {error}') from error
    for name, layer in layers.items():
        become(module.get_submodule(name), layer)
