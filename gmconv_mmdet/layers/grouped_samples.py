"""Convolution with a kernel for each sample, all samples at once."""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

# Per image, in pixels. A guess until it is measured on a GPU: a convolution over so few pixels
# takes about as long as its launch.
_SMALL_IMAGE = 64 * 64


def pays(x: Tensor, weight: Tensor) -> bool:
    """Whether a batch is to be convolved at once rather than sample by sample: on a GPU, where many
    small convolutions wait for their launches. On a CPU it is slower throughout."""
    return (x.is_cuda and len(x) > 1 and x.shape[2] * x.shape[3] <= _SMALL_IMAGE
            and weight.numel() <= x[0].numel())  # there will be as many kernels as samples


def conv2d_per_sample(x: Tensor, weight: Tensor, masks: Tensor, bias: Tensor | None,
                      stride: tuple[int, int], padding: str | tuple[int, int],
                      dilation: tuple[int, int], groups: int) -> Tensor:
    """``F.conv2d`` of each sample with ``weight`` times its own mask, as one convolution with a
    group (or ``groups`` of them) for each sample.

    Args:
        x (Tensor): ``(N, C_in, H, W)``, N of 1 or more.
        weight (Tensor): ``(C_out, C_in / groups, K_h, K_w)``.
        masks (Tensor): ``(N, K_h, K_w)``.
        bias (Tensor, optional): ``(C_out,)``.
        stride, padding, dilation, groups: as of ``F.conv2d``.

    Returns:
        Tensor: ``(N, C_out, H_out, W_out)``.
    """
    samples = len(x)
    kernels = (weight * masks[:, None, None]).flatten(0, 1)  # (N * C_out, C_in / groups, K_h, K_w)
    out = F.conv2d(x.reshape(1, -1, *x.shape[2:]), kernels,
                   None if bias is None else bias.repeat(samples), stride, padding, dilation,
                   samples * groups)
    return out.view(samples, -1, *out.shape[2:])
