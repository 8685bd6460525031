"""GMConv and RefConv for networks that pad as TensorFlow does: timm's ``Conv2dSame`` and mmcv's
``Conv2dAdaptivePadding``."""
from __future__ import annotations

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..layers import GMConv2d, RefConv2d


def pad_same(x: Tensor, kernel_size: tuple[int, ...], stride: tuple[int, ...],
             dilation: tuple[int, ...]) -> Tensor:
    """Zeros around ``x``, ``(..., H, W)``, so that a convolution without padding gives
    ``(..., ceil(H / stride), ceil(W / stride))``; an odd one goes to the right and the bottom, as
    in TensorFlow."""
    sides = []
    for size, k, step, dil in zip(x.shape[:-3:-1], kernel_size[::-1], stride[::-1], dilation[::-1]):
        total = max((-(-size // step) - 1) * step + (k - 1) * dil + 1 - size, 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x, sides)


class SamePadded(nn.Conv2d):
    """Mixin: pads the input first. (What a dynamic mask is predicted from is padded, too.)"""
    folds_to = nn.Conv2d  # or the class that it came from

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_same(x, self.kernel_size, self.stride, self.dilation))


# nn.Conv2d once more: MMEngine's initialisers know a layer by its direct bases.
class GMConv2dSame(SamePadded, GMConv2d, nn.Conv2d):
    """A :class:`GMConv2d` that pads its input as TensorFlow does."""


class RefConv2dSame(SamePadded, RefConv2d, nn.Conv2d):
    """A :class:`RefConv2d` that pads its input as TensorFlow does."""


WITH_SAME_PADDING = {GMConv2d: GMConv2dSame, RefConv2d: RefConv2dSame}
