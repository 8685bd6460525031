"""Convolution with a mask for each sample, in a form that serves every batch size."""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def conv2d_by_columns(x: Tensor, weight: Tensor, masks: Tensor, bias: Tensor | None,
                      stride: tuple[int, ...], dilation: tuple[int, ...], groups: int) -> Tensor:
    r"""``F.conv2d`` of each sample with ``weight`` times its own mask, by columns (im2col): the
    :math:`K_h K_w` input cells under the kernel become channels, the sample's mask scales them, and a
    1x1 convolution applies the weight.

    The same sums in another order. It needs :math:`C_{in} K_h K_w` channels of the output's size in
    between. That is why eager mode convolves sample by sample; a recorded graph (``torch.compile``,
    ``torch.export``, ``torch.jit.trace``, ONNX) would hold that loop for one batch size only. (One
    convolution with a group for each sample is compiled anew for every batch size by inductor.)

    Args:
        x (Tensor): ``(N, C_in, H, W)``, padded already.
        weight (Tensor): ``(C_out, C_in / groups, K_h, K_w)``.
        masks (Tensor): ``(N, K_h, K_w)``.
        bias (Tensor, optional): ``(C_out,)``.
        stride, dilation, groups: as of ``F.conv2d``.

    Returns:
        Tensor: ``(N, C_out, H_out, W_out)``.
    """
    kernel = weight.shape[2:]
    columns = F.unfold(x, kernel, dilation, stride=stride)  # (N, C_in * K_h * K_w, H_out * W_out)
    # Channel c * K_h * K_w + k holds cell k of input channel c.
    scale = masks.flatten(1).to(columns.dtype).repeat(1, x.shape[1])  # (N, C_in * K_h * K_w)
    size = [(side - dil * (k - 1) - 1) // step + 1
            for side, k, step, dil in zip(x.shape[2:], kernel, stride, dilation)]
    scaled = (columns * scale.unsqueeze(-1)).unflatten(2, size)
    return F.conv2d(scaled, weight.reshape(weight.shape[0], -1, 1, 1), bias, groups=groups)
