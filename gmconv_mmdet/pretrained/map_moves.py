"""What becomes of a RefConv's map where a checkpoint and a network have it in different places.

A refocused kernel ``W = W_b + T(W_b)`` (arXiv 2310.10563) is kept as basis ``W_b`` and map ``T``.
Where the network has no map the kernel itself moves; where only the network has a map, a plain
weight becomes its basis. So do the kernels of checkpoints with a mask on a refocused kernel
(GMRefConv, up to version 0.1): a mask multiplied into the basis would not be one on the kernel.
"""
from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn as nn
from torch import Tensor

from ..checkpoints.checkpoint_file import CheckpointError
from ..layers import RefConv2d, refocus

MAP = 'convmap.weight'


def refocused_layers(module: nn.Module) -> dict[str, RefConv2d]:
    """The convolutions of ``module`` that have a basis and a map, by name."""
    return {name: layer for name, layer in module.named_modules()
            if isinstance(layer, RefConv2d) and layer.convmap is not None}


def kept_maps(expected: Collection[str], masks: Collection[str]) -> set[str]:
    """Names of the convolutions whose map can move as it is: the network has one, and the checkpoint
    has no mask on the kernel, which the network has no place for.

    Args:
        expected (Collection[str]): keys of the network's ``state_dict()``.
        masks (Collection[str]): the checkpoint's convolutions with a mask.
    """
    return {name[:-len(MAP) - 1] for name in expected if name.endswith(f'.{MAP}')} - set(masks)


def multiply_out_maps(tensors: dict[str, Tensor],
                      kept: Collection[str]) -> tuple[dict[str, Tensor], list[str]]:
    """A state dict in which refocused kernels stand for basis and map.

    Args:
        tensors (dict[str, Tensor]): of the checkpoint.
        kept (Collection[str]): names of convolutions that stay as they are.

    Returns:
        tuple: the state dict, kernels computed in fp64 and in the basis's dtype, at least fp32; and
        the names of the convolutions multiplied out.

    Raises:
        CheckpointError: basis and map don't belong together.
    """
    result, multiplied = dict(tensors), []
    for name, map_weight in tensors.items():
        conv = name[:-len(MAP) - 1]
        if name != f'{conv}.{MAP}' or conv in kept or f'{conv}.weight' not in tensors:
            continue
        basis = tensors[f'{conv}.weight']
        if basis.dim() != 4 or map_weight.dim() != 4:
            continue
        try:
            kernel = refocus(basis.double(), map_weight.double())
        except ValueError as error:
            raise CheckpointError(f'the RefConv {conv} is damaged: {error}') from error
        del result[name]
        result[f'{conv}.weight'] = kernel.to(torch.promote_types(basis.dtype, torch.float32))
        multiplied.append(conv)
    return result, multiplied
