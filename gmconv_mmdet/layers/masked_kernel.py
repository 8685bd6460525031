"""How large a masked kernel is, measured by its spread."""
from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from .find_layers import gm_layers


def masked_extent(mask: Tensor) -> tuple[float, float]:
    """The size of the plain kernel whose taps are spread as widely as the mask's.

    A plain kernel of ``k`` taps has, along each axis, the variance ``(k^2 - 1) / 12``. Solved for
    ``k`` this gives a size to any mask: exactly ``k`` where the mask is flat, 1 where only the
    centre is left. It is a measure of the trained mask alone; the theoretical field, which counts
    every input that can reach the output at all, is never changed by a mask.

    Args:
        mask: ``(K_h, K_w)``, not negative, not all zero.

    Returns:
        ``(k_h, k_w)`` in kernel cells, each from 1 to the kernel's own size.

    Raises:
        ValueError: for other shapes or values.
    """
    if mask.dim() != 2 or not bool((mask >= 0).all()) or not float(mask.sum()) > 0:
        raise ValueError('a mask is (K_h, K_w), not negative and not all zero; '
                         f'got shape {tuple(mask.shape)}')
    mask = mask.detach().double()
    sizes = []
    for marginal in (mask.sum(1), mask.sum(0)):
        weight = marginal / marginal.sum()
        at = torch.arange(len(weight), dtype=torch.double)
        variance = float((weight * (at - (weight * at).sum()) ** 2).sum())
        # A mask with two far ends may spread wider than a flat kernel; the grid is the limit.
        sizes.append(min((12 * variance + 1) ** 0.5, float(len(weight))))
    return sizes[0], sizes[1]


def masked_kernels(module: nn.Module) -> dict[str, tuple[float, float]]:
    """``masked_extent`` of every Gaussian-mask layer in ``module``, by name.

    A dynamic mask differs from image to image; here it is the one for a blank image, which is what
    the predictor's bias says.
    """
    extents = {}
    for name, layer in gm_layers(module).items():
        if layer.weight.is_meta:  # a module without data has no mask to measure
            continue
        blank = layer.weight.new_zeros(1, layer.in_channels, 1, 1)
        with torch.no_grad():
            mask = layer.mask(blank)
        extents[name] = masked_extent(mask[0].cpu() if mask.dim() == 3 else mask.cpu())
    return extents
