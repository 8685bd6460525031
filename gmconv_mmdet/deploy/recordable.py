"""The dynamic GMConv in a form whose recorded graph serves every batch size (ONNX, export)."""
from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from ..layers import GMConv2d, gaussian_mask
from ..layers.conv_arguments import conv_arguments
from .fold import exchange, fold_gmconv


class ColumnConv(nn.Module):
    r"""A dynamic GMConv by its columns (im2col) instead of by one convolution a sample.

    ``GMConv2d`` loops over the samples, which a recorder unrolls for the batch at hand. Here

    1. a depthwise convolution with one-hot kernels copies, for every output cell, the
       :math:`K_h K_w` input cells under the kernel into channels of their own (padding modes,
       strides and dilations are that convolution's);
    2. the sample's mask scales these channels;
    3. a 1x1 convolution applies the unchanged weight.

    The same sums in another order. It needs :math:`C_{in} K_h K_w` channels of the output's size in
    between, which is why training doesn't use it.

    Args:
        layer (GMConv2d): a dynamic layer; its parameters are shared, not copied.
    """

    def __init__(self, layer: GMConv2d) -> None:
        super().__init__()
        channels, cells = layer.in_channels, layer.kernel_size[0] * layer.kernel_size[1]
        options = dict(device=layer.weight.device, dtype=layer.weight.dtype)
        self.kernel_size = layer.kernel_size
        self.sigma_predictor = layer.sigma_predictor
        self.columns = nn.Conv2d(**{**conv_arguments(layer), **options, 'groups': channels,
                                    'out_channels': channels * cells, 'bias': False})
        one_hot = torch.eye(cells, **options).view(cells, 1, *layer.kernel_size)
        self.columns.weight = nn.Parameter(one_hot.repeat(channels, 1, 1, 1), False)
        self.combine = nn.Conv2d(channels * cells, layer.out_channels, 1, groups=layer.groups,
                                 bias=layer.bias is not None, **options)
        self.combine.weight = nn.Parameter(
            layer.unmasked_weight().detach().reshape(layer.out_channels, -1, 1, 1))
        self.combine.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C_in, H, W)`` to what the layer gives."""
        columns = self.columns(x)  # (N, C_in * K_h * K_w, H', W')
        masks = gaussian_mask(self.kernel_size, self.sigma_predictor(x)).flatten(1)  # (N, cells)
        # Channel c * K_h * K_w + k holds cell k of input channel c.
        scale = masks.to(columns.dtype).repeat(1, columns.shape[1] // masks.shape[1])
        return self.combine(columns * scale[:, :, None, None])


def recordable(model: nn.Module) -> nn.Module:
    """A copy of ``model``, folded, in which each dynamic GMConv is a :class:`ColumnConv`: a graph
    recorded from it (``torch.export``, ``torch.jit.trace``, ONNX) holds for every batch size."""
    model = fold_gmconv(model)
    return exchange(model, {layer: ColumnConv(layer).train(layer.training)
                            for layer in model.modules() if isinstance(layer, GMConv2d)})
