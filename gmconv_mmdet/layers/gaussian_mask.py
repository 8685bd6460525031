"""The Gaussian mask of GMConv, as pure functions (arXiv 2302.04544, Eq. 3-6)."""
from __future__ import annotations

import torch
from torch import Tensor

# sigma^2 is clamped to this range, which no fp64 value of the mask notices: below the lower bound
# every entry but the centre underflows to 0 (the smallest squared offset is 1, and
# exp(-1 / (2 * 1e-4)) is 0); above the upper one every entry rounds to 1.
_VARIANCE_MIN, _VARIANCE_MAX = 1e-4, 1e24


def unit_exponents(kernel_size: tuple[int, ...], dtype: torch.dtype | None = None,
                   device: torch.device | None = None) -> Tensor:
    """Exponents of the mask of sigma 1, along x and along y.

    The smallest squared offset of each direction is subtracted (1/4 for an even size, else 0). This
    is the paper's "Max" normalisation (Eq. 4 and 6) in the exponent: the largest mask entry becomes
    exactly 1.

    Args:
        kernel_size (tuple[int, int]): ``(K_h, K_w)``, each at least 1.

    Returns:
        Tensor: ``(2, K_h, K_w)``: ``-x^2 / 2`` and ``-y^2 / 2`` of every cell, in kernel cells.
    """
    along_y, along_x = (
        torch.arange(size, dtype=dtype, device=device) - (size - 1) / 2 for size in kernel_size)
    along_y, along_x = (
        -0.5 * (offsets * offsets - (0.25 if len(offsets) % 2 == 0 else 0))
        for offsets in (along_y, along_x))
    return torch.stack([along_x.expand(*kernel_size),
                        along_y.unsqueeze(-1).expand(*kernel_size)])


def _variance(sigma: Tensor) -> Tensor:
    # A product: where it overflows (from 2e19 on in fp32) its gradient is 0 * sigma + 0 * sigma,
    # while that of sigma ** 2 is 0 * (2 * sigma), which is NaN from 2e38 on.
    return (sigma * sigma).clamp(_VARIANCE_MIN, _VARIANCE_MAX)


def circular_mask(exponents: Tensor, sigma: Tensor) -> Tensor:
    """Masks with the same sigma along x and y (Eq. 3-4).

    Args:
        exponents (Tensor): ``(K_h, K_w)``, the sum of the two of :func:`unit_exponents`; fp32 or fp64.
        sigma (Tensor): ``(1,)``, or ``(..., 1, 1)`` for several masks.

    Returns:
        Tensor: ``(..., K_h, K_w)``, dtype of ``sigma``.
    """
    return (exponents / _variance(sigma.to(exponents.dtype))).exp().to(sigma.dtype)


def elliptical_mask(exponents: Tensor, sigma: Tensor) -> Tensor:
    """Masks with a sigma along x and another one along y (Eq. 5-6).

    Args:
        exponents (Tensor): ``(2, K_h, K_w)``, of :func:`unit_exponents`; fp32 or fp64.
        sigma (Tensor): ``(..., 2)``.

    Returns:
        Tensor: ``(..., K_h, K_w)``, dtype of ``sigma``.
    """
    variance = _variance(sigma.to(exponents.dtype))
    return (exponents / variance[..., None, None]).sum(-3).exp().to(sigma.dtype)


def gaussian_mask(kernel_size: tuple[int, ...], sigma: Tensor) -> Tensor:
    r"""Gaussian receptive-field mask over the cells of a convolution kernel.

    With the offsets :math:`x, y` of a cell from the kernel's centre, counted in kernel cells
    (dilation does not stretch them),

    .. math:: M = \exp\left(-\tfrac12 \left(\frac{x^2 - \min x^2}{\sigma_1^2}
                                          + \frac{y^2 - \min y^2}{\sigma_2^2}\right)\right)

    which for :math:`\sigma_1 = \sigma_2` is the circular mask of Eq. 3-4 and otherwise the elliptical
    one of Eq. 5-6, "Max"-normalised: the largest entry is exactly 1, for even kernels too. Only
    :math:`\sigma^2` enters, so the sign of sigma is irrelevant. Values and gradients are finite for
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
    exponents = unit_exponents(tuple(kernel_size), torch.promote_types(sigma.dtype, torch.float32),
                               sigma.device)
    if sigma.shape[-1] == 1:
        return circular_mask(exponents.sum(0), sigma.unsqueeze(-1))
    return elliptical_mask(exponents, sigma)
