"""Which convolutions of a network become GMConv, and the exchange itself.

The exchange happens after a network is built: a ``conv_cfg`` would reach its 1x1 convolutions too
and can't stand beside DCN in mmdet's blocks, and a subclassed block would lose mmdet's zero
initialisation. Names, weights and block classes stay as they are.
"""
from __future__ import annotations

import torch.nn as nn
from mmcv.cnn.bricks.wrappers import Conv2d as MmcvConv2d

from ..layers import GMConv2d

# mmcv's wrapper differs from nn.Conv2d for empty inputs only, which torch handles by now. Other
# subclasses (deformable, weight-standardised, ...) compute something else and are left alone.
PLAIN_CONVS = (nn.Conv2d, MmcvConv2d)

GM_STEMS = ('dynamic', 'static', None)


def check_gm_stem(gm_stem: str | None, gm_cfg: dict) -> None:
    """Raise a ``ValueError`` that names the rule and the value for a stem that there is not, or for
    ``gm_cfg`` with a second opinion on it."""
    if gm_stem not in GM_STEMS:
        raise ValueError(f'gm_stem must be one of {GM_STEMS}, got {gm_stem!r}')
    if 'dynamic' in gm_cfg:
        raise ValueError('gm_cfg must not hold "dynamic": gm_stem says what the stem is, and all '
                         'else is static')


def spatial_convs(module: nn.Module) -> list[str]:
    """Names of the plain convolutions in ``module`` whose kernel is larger than 1x1, in the order
    in which they are registered (in the usual networks: the order in which they run). Those inside
    another kind of convolution, as a deformable one's offset branch, belong to it and are left out.
    """
    names = []
    for name, child in module.named_children():
        if type(child) in PLAIN_CONVS:
            if child.kernel_size != (1, 1):
                names.append(name)
        elif not hasattr(child, 'weight'):  # mmcv's ConvModule has a kernel_size, but no weight
            names += [f'{name}.{inner}' for inner in spatial_convs(child)]
    return names


def gmconv_from(conv: nn.Conv2d, dynamic: bool, **gm_cfg) -> GMConv2d:
    """A :class:`GMConv2d` that takes over the arguments and the very parameters of ``conv``."""
    gmconv = GMConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
        dynamic=dynamic,
        **gm_cfg)
    gmconv.weight, gmconv.bias = conv.weight, conv.bias
    for parameter in gmconv.mask_parameters():  # a frozen layer's mask is frozen with it
        parameter.requires_grad_(conv.weight.requires_grad)
    return gmconv.train(conv.training)


def swap(module: nn.Module, names: list[str], dynamic: bool, **gm_cfg) -> None:
    """Replace the named convolutions of ``module`` by GMConv, in place.

    Args:
        module (nn.Module): the network, or a part of it.
        names (list[str]): dotted names below ``module``, as from :func:`spatial_convs`.
        dynamic (bool): dynamic or static masks.
        **gm_cfg: further arguments of :class:`GMConv2d`.
    """
    for name in names:
        parent = module.get_submodule(name.rpartition('.')[0])
        setattr(parent, name.rpartition('.')[2],
                gmconv_from(module.get_submodule(name), dynamic, **gm_cfg))
