"""Which convolutions of a network become GMConv or RefConv, and the exchange itself.

The exchange happens after a network is built: a ``conv_cfg`` would reach its 1x1 convolutions too
and can't stand beside DCN in mmdet's blocks, and a subclassed block would lose mmdet's zero
initialisation. Names, weights and block classes stay as they are.
"""
from __future__ import annotations

import torch.nn as nn

from ..layers import GMConv2d, RefConv2d
from ..layers.conv_arguments import conv_arguments

# Subclasses that compute what nn.Conv2d does: mmcv's wrapper differs for empty inputs only, which
# torch handles by now. Others (deformable, weight-standardised, ...) don't, and are left alone.
PLAIN_SUBCLASSES = ('mmcv.cnn.bricks.wrappers.Conv2d', )

KINDS = {'GMConv': GMConv2d, 'RefConv': RefConv2d}
GM_STEMS = ('dynamic', 'static', None)


def check_gm_stem(gm_stem: str | None, gm_cfg: dict) -> None:
    """Raise a ``ValueError`` that names the rule and the value for a stem that there is not, or for
    ``gm_cfg`` with a second opinion on it."""
    if gm_stem not in GM_STEMS:
        raise ValueError(f'gm_stem must be one of {GM_STEMS}, got {gm_stem!r}')
    if 'dynamic' in gm_cfg:
        raise ValueError('gm_cfg must not hold "dynamic": gm_stem says what the stem is, and all '
                         'else is static')


def is_plain_conv(module: nn.Module) -> bool:
    """Whether ``module`` is ``nn.Conv2d``, or a subclass that computes the same."""
    cls = type(module)
    return cls is nn.Conv2d or f'{cls.__module__}.{cls.__qualname__}' in PLAIN_SUBCLASSES


def spatial_convs(module: nn.Module) -> list[str]:
    """Names of the plain convolutions in ``module`` whose kernel is larger than 1x1, in the order
    in which they are registered (in the usual networks: the order in which they run). Those inside
    another kind of convolution, as a deformable one's offset branch, belong to it and are left out.
    """
    names = []
    for name, child in module.named_children():
        if is_plain_conv(child):
            if child.kernel_size != (1, 1):
                names.append(name)
        elif not hasattr(child, 'weight'):  # mmcv's ConvModule has a kernel_size, but no weight
            names += [f'{name}.{inner}' for inner in spatial_convs(child)]
    return names


def converted(conv: nn.Conv2d, kind: str = 'GMConv', trained: bool = False, **options) -> nn.Conv2d:
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
    layer = KINDS[kind](**conv_arguments(conv), device=conv.weight.device, dtype=conv.weight.dtype,
                        **options)
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


def swap(module: nn.Module, names: list[str], kind: str = 'GMConv', **options) -> None:
    """Replace the named convolutions of ``module`` by layers of ours, in place.

    Args:
        module (nn.Module): the network, or a part of it.
        names (list[str]): dotted names below ``module``, as from :func:`spatial_convs`.
        kind ('GMConv' | 'RefConv'): of layer.
        **options: as of :func:`converted`: ``dynamic`` and ``init_sigma`` of GMConv, ``init`` of
            RefConv, ``trained`` ...

    Raises:
        ValueError: as of :func:`converted`, with the layer's name; nothing is replaced then.
    """
    layers = {}
    for name in names:
        try:
            layers[name] = converted(module.get_submodule(name), kind, **options)
        except ValueError as error:
            raise ValueError(f'{name}: {error}') from error
    for name, layer in layers.items():
        parent, _, child = name.rpartition('.')
        setattr(module.get_submodule(parent), child, layer)
