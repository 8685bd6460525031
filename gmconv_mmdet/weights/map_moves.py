"""What becomes of a RefConv's map where a checkpoint and a network have it in different places.

A refocused kernel ``W = W_b + T(W_b)`` (arXiv 2310.10563) is kept as basis ``W_b`` and map ``T``.
Where the network has no map, the kernel itself is what the checkpoint's layer computed with; where
only the network has one, a plain weight becomes its basis.
"""
from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn as nn
from torch import Tensor

from ..layers import RefocusedKernel, refocus
from .checkpoint_file import CheckpointError

MAP = 'convmap.weight'


def refocused_layers(module: nn.Module) -> dict[str, RefocusedKernel]:
    """The convolutions of ``module`` that have a basis and a map, by name."""
    return {name: layer for name, layer in module.named_modules()
            if isinstance(layer, RefocusedKernel) and layer.convmap is not None}


def multiply_out_maps(tensors: dict[str, Tensor],
                      expected: Collection[str]) -> tuple[dict[str, Tensor], list[str]]:
    """A state dict in which refocused kernels stand for basis and map where no map is expected.

    Args:
        tensors (dict[str, Tensor]): of the checkpoint.
        expected (Collection[str]): keys of the network's ``state_dict()``.

    Returns:
        tuple: the state dict, kernels computed in fp64 and in the basis's dtype, at least fp32; and
        the names of the convolutions.

    Raises:
        CheckpointError: basis and map don't belong together.
    """
    result, multiplied = dict(tensors), []
    for name, map_weight in tensors.items():
        conv = name[:-len(MAP) - 1]
        if name != f'{conv}.{MAP}' or name in expected or f'{conv}.weight' not in tensors:
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
