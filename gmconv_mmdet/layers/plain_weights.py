"""Plain weights for masked layers: what a layer takes from a state dict without masks.

A state dict that has a layer's weight and nothing of its mask was saved by a plain convolution. Copied
as it is, that weight would be multiplied by the mask, and the network would compute something else
with no more than "missing keys" to say so. Divided by the mask of ``init_sigma`` the masked layer
computes what the plain convolution did.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor

from .gaussian_mask import gaussian_mask

# A weight is not divided by mask entries below this: it would grow past 10^4 times its neighbours.
SMALLEST_DIVISOR = 1e-4


def divided_by_initial_mask(weight: Tensor, init_sigma: float, dtype: torch.dtype | None = None
                            ) -> Tensor:
    """The weight that under the mask of ``init_sigma`` is ``weight``.

    Args:
        weight (Tensor): ``(C_out, C_in / groups, K_h, K_w)``.
        init_sigma (float): of the circular mask, in kernel cells.
        dtype (torch.dtype, optional): in which the layer computes its mask (default: the weight's).

    Returns:
        Tensor: as ``weight``, computed in fp64; at least fp32.

    Raises:
        ValueError: the mask has entries too small to divide by.
    """
    kernel = tuple(weight.shape[-2:])
    sigma = torch.full((1, ), init_sigma, dtype=dtype or weight.dtype)
    mask = gaussian_mask(kernel, sigma).double()
    if mask.min() < SMALLEST_DIVISOR:
        distance = sum(((size - 1) / 2) ** 2 - 0.25 * (1 - size % 2) for size in kernel)
        enough = math.ceil(10 * math.sqrt(distance / 2 / -math.log(SMALLEST_DIVISOR))) / 10
        raise ValueError(
            f'with init_sigma={init_sigma:g} the mask of a {kernel[0]}x{kernel[1]} kernel falls to '
            f'{mask.min():.1g}, too small to divide the weight by. Set init_sigma to {enough:g} or '
            'more, or preserve=False to copy the weight as it is')
    quotient = weight.detach().double() / mask.to(weight.device)
    return quotient.to(torch.promote_types(weight.dtype, torch.float32))
