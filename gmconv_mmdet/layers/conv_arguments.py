"""What another convolution has to be given to convolve alike."""
from __future__ import annotations

from typing import Any

import torch.nn as nn


def conv_arguments(conv: nn.Conv2d) -> dict[str, Any]:
    """The arguments of ``nn.Conv2d`` that ``conv`` was made with, device and dtype apart."""
    return dict(in_channels=conv.in_channels, out_channels=conv.out_channels,
                kernel_size=conv.kernel_size, stride=conv.stride, padding=conv.padding,
                dilation=conv.dilation, groups=conv.groups, bias=conv.bias is not None,
                padding_mode=conv.padding_mode)
