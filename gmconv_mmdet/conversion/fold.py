"""Folding: masks and refocusing maps multiplied into weights; plain convolutions are left."""
from __future__ import annotations

import copy
from collections.abc import Container, Mapping

import torch
import torch.nn as nn
from torch import Tensor

from ..layers.conv_arguments import conv_arguments
from .crop import crop_plan, cropped_conv


def folded_weight(module: nn.Module) -> Tensor | None:
    """The weight of the ``nn.Conv2d`` that computes what ``module`` does; None where there is none.

    Convolutions of ours have a method ``plain_weight()`` that returns it, None in a dynamic GMConv,
    and a property ``kernel_is_frozen``.
    """
    plain_weight = getattr(module, 'plain_weight', None)
    return plain_weight() if callable(plain_weight) and isinstance(module, nn.Conv2d) else None


def is_foldable(module: nn.Module) -> bool:
    """Whether ``module`` is a convolution of ours that equals a plain one as it stands."""
    return folded_weight(module) is not None


def folding_changes(module: nn.Module) -> bool:
    """Whether ``module`` is foldable and more than a plain convolution: has a mask or a map."""
    weight = folded_weight(module)
    return weight is not None and weight is not module.weight


def plain_conv(layer: nn.Conv2d, weight: Tensor) -> nn.Conv2d:
    """An ``nn.Conv2d`` (of timm's or mmcv's class that pads as TensorFlow does, where ``layer``
    comes from one) with the arguments, bias and mode of ``layer``, and the given weight
    ``(C_out, C_in / groups, K_h, K_w)``, whose dtype, device and memory format it takes."""
    # On no device there is no initialisation: neither time nor random numbers.
    conv = nn.Conv2d(**conv_arguments(layer), device='meta')
    conv.weight = nn.Parameter(weight.detach(), not layer.kernel_is_frozen)
    conv.bias = layer.bias
    conv.__class__ = getattr(layer, 'folds_to', nn.Conv2d)
    return conv.train(layer.training)


def exchange(model: nn.Module, successors: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Put the successors in their layers' places, in place. Returns ``model``, or its successor."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # named_children() skips repetitions
            if child is not None and child in successors:
                setattr(parent, name, successors[child])
    return successors.get(model, model)


@torch.no_grad()
def fold_gmconv(model: nn.Module, inplace: bool = False, keep: Container[str] = (),
                crop: float | None = None) -> nn.Module:
    """Replace every static GMConv and every RefConv by the ``nn.Conv2d`` that computes the same.

    Exact without ``crop``: the plain convolution's weight is the very product that the layer
    computes in each forward pass. Bias, padding mode, dtype, device, memory format,
    ``requires_grad`` (of a RefConv: its map's) and train/eval mode stay as they are. A dynamic
    GMConv is left alone, because its mask depends on the input; so are all convolutions that are
    not ours (deformable ones, say). Safe to repeat, and right before as well as after mmcv's
    ``fuse_conv_bn`` (for a RefConv with groups: before, afterwards is an error). Hooks registered
    on a replaced layer don't move to its successor.

    Args:
        model (nn.Module): a layer, backbone, detector or any other network.
        inplace (bool): change ``model`` itself instead of a copy. Without, ``model`` and its
            parameters are untouched.
        keep (Container[str]): names of layers (as in ``model.named_modules()``) that stay as
            they are.
        crop (float, optional): cut rows and columns at the border of a folded kernel in which its
            mask is below this tolerance, and the padding with them: smaller, faster convolutions,
            not exact any more, and of another shape than a stock network's. What is cut, and a bound
            on what it changes, tells :func:`~gmconv_mmdet.conversion.crop.crop_plan`. None: exact.

    Raises:
        ValueError: ``crop`` isn't above 0 and below 1.

    Returns:
        nn.Module: the copy, or ``model`` if in place; where ``model`` is itself such a layer, its
        successor.
    """
    crops = {} if crop is None else crop_plan(model, crop)
    if not inplace:
        model = copy.deepcopy(model)
    # By layer: one that is used in two places stays one.
    successors: dict[nn.Module, nn.Conv2d] = {}
    for name, module in model.named_modules():
        weight = None if name in keep else folded_weight(module)
        if weight is not None and isinstance(module, nn.Conv2d):
            successors[module] = plain_conv(module, weight)
            if name in crops:
                cropped_conv(successors[module], crops[name])
    return exchange(model, successors)
