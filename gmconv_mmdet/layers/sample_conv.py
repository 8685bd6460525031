"""Convolution with a mask for each sample, in a form that serves every batch size."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def conv2d_by_columns(x: Tensor, weight: Tensor, masks: Tensor, bias: Tensor | None,
                      stride: tuple[int, int], padding: str | tuple[int, int],
                      dilation: tuple[int, int], groups: int) -> Tensor:
    r"""``F.conv2d`` of each sample with ``weight`` times its own mask, by columns (im2col).

    1. A depthwise convolution with one-hot kernels copies, for every output cell, the
       :math:`K_h K_w` input cells under the kernel into channels of their own;
    2. the sample's mask scales these channels;
    3. a 1x1 convolution applies the weight.

    The same sums in another order. It needs :math:`C_{in} K_h K_w` channels of the output's size in
    between. That is why eager mode convolves sample by sample; a recorded graph (``torch.compile``,
    ``torch.export``, ``torch.jit.trace``, ONNX) would hold that loop for one batch size only. (One
    convolution with a group for each sample is compiled anew for every batch size by inductor.)

    Args:
        x (Tensor): ``(N, C_in, H, W)``.
        weight (Tensor): ``(C_out, C_in / groups, K_h, K_w)``.
        masks (Tensor): ``(N, K_h, K_w)``.
        bias (Tensor, optional): ``(C_out,)``.
        stride, padding, dilation, groups: as of ``F.conv2d``.

    Returns:
        Tensor: ``(N, C_out, H_out, W_out)``.
    """
    channels, cells = x.shape[1], weight.shape[2] * weight.shape[3]
    one_hot = torch.eye(cells, dtype=weight.dtype, device=weight.device)
    one_hot = one_hot.view(cells, 1, *weight.shape[2:]).repeat(channels, 1, 1, 1)
    columns = F.conv2d(x, one_hot, None, stride, padding, dilation, channels)
    # Channel c * K_h * K_w + k holds cell k of input channel c.
    scale = masks.flatten(1).to(columns.dtype).repeat(1, channels)  # (N, C_in * K_h * K_w)
    return F.conv2d(columns * scale[:, :, None, None],
                    weight.reshape(weight.shape[0], -1, 1, 1), bias, groups=groups)
