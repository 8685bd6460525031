"""The Gaussian mask of GMConv, as a pure function (arXiv 2302.04544, Eq. 3-6)."""
from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

# sigma ** 2 is clamped to this range. Neither bound changes a value that fp64 can hold: below the
# lower one every entry but the centre underflows to 0 (the smallest squared offset is 1, and
# exp(-1 / (2 * 1e-4)) is 0); above the upper one every entry rounds to 1.
_VARIANCE_MIN, _VARIANCE_MAX = 1e-4, 1e24

# See _exponents(): a few numbers each.
_kept_exponents: dict[tuple, tuple[Tensor, Tensor, Tensor]] = {}


def squared_offsets(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Squared distances, in kernel cells, of ``size`` cells in a row from their common centre.

    The smallest one is subtracted (1/4 for an even ``size``, else 0), which is the papers' "Max
    normalisation" (Eq. 4 and 6) in the exponent: the largest mask entry becomes exactly 1.

    Returns:
        Tensor: ``(size,)``, non-negative whole numbers, with a zero at (or on both sides of) the
        centre.
    """
    offsets = torch.arange(size, dtype=dtype, device=device) - (size - 1) / 2
    squared = offsets * offsets
    return squared if size % 2 else squared - 0.25


def gaussian_mask(kernel_size: tuple[int, int], sigma: Tensor) -> Tensor:
    r"""Gaussian receptive-field mask over the cells of a convolution kernel.

    With the offsets :math:`x, y` of a cell from the kernel's centre, counted in kernel cells
    (dilation does not stretch them),

    .. math:: M = \exp\left(-\tfrac12 \left(\frac{x^2 - \min x^2}{\sigma_1^2}
                                          + \frac{y^2 - \min y^2}{\sigma_2^2}\right)\right)

    which for :math:`\sigma_1 = \sigma_2` is the circular mask of Eq. 3-4 and otherwise the elliptical
    one of Eq. 5-6, "Max"-normalised: the largest entry is exactly 1, for even kernels too. Only
    :math:`\sigma^2` enters, so the sign of sigma is irrelevant. Values and gradients stay finite for
    every finite sigma: ``sigma -> 0`` gives a delta at the centre, a huge sigma a mask of ones.

    Args:
        kernel_size (tuple[int, int]): ``(K_h, K_w)``, each at least 1.
        sigma (Tensor): ``(..., 1)`` for circular masks, ``(..., 2)`` for elliptical ones with
            ``sigma[..., 0]`` acting along x (the width) and ``sigma[..., 1]`` along y (the height).
            Any floating dtype; fp16 and bf16 are computed in fp32.

    Returns:
        Tensor: ``(..., K_h, K_w)``, dtype and device of ``sigma``, values in [0, 1].

    Raises:
        ValueError: ``sigma`` is not floating, or its last dimension is neither 1 nor 2.
    """
    if not sigma.is_floating_point() or sigma.dim() == 0 or sigma.shape[-1] not in (1, 2):
        raise ValueError('sigma must be a floating tensor of shape (..., 1) or (..., 2), '
                         f'got {sigma.dtype} of shape {tuple(sigma.shape)}')
    kernel_h, kernel_w = kernel_size
    dtype = torch.promote_types(sigma.dtype, torch.float32)
    circular, along_y, along_x = _exponents(tuple(kernel_size), dtype, sigma)
    variance = sigma.to(dtype).square().clamp(_VARIANCE_MIN, _VARIANCE_MAX).unsqueeze(-1)
    if sigma.shape[-1] == 1:
        exponent = circular / variance  # (..., K_h, K_w)
    else:
        exponent = along_y / variance[..., 1:, :] + along_x / variance[..., :1, :]
    return exponent.exp().to(sigma.dtype)


def _exponents(kernel_size: tuple[int, int], dtype: torch.dtype,
               sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The exponents of masks of sigma 1: ``(K_h, K_w)``, and their parts along y ``(K_h, 1)`` and
    along x ``(1, K_w)``, on the device of ``sigma``.

    Kept from call to call: on a GPU they would take more kernels than the rest of a mask. Not while
    a graph is compiled, which folds them, nor for stand-ins for tensors (fake ones, say).
    """
    key = (kernel_size, dtype, sigma.device)
    keeps = type(sigma) in (Tensor, nn.Parameter) and not torch.compiler.is_compiling()
    if keeps and key in _kept_exponents:
        return _kept_exponents[key]
    with torch.inference_mode(False):  # tensors born in inference mode could not be trained with
        along_y, along_x = (-0.5 * squared_offsets(size, dtype, sigma.device)
                            for size in kernel_size)
        found = (along_y.unsqueeze(-1) + along_x, along_y.unsqueeze(-1), along_x.unsqueeze(0))
    if keeps and type(along_x) is Tensor:
        _kept_exponents[key] = found
    return found
