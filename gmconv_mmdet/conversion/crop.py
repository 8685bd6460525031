r"""Smaller kernels where a mask leaves nothing at the border: 7x7 to 5x5 to 3x3 to 1x1.

A static mask falls off from the kernel's centre. Outermost rows and columns in which it lies below
a tolerance everywhere can be cut from the folded kernel, with as much padding. What that changes is
bounded. Let :math:`W'_o` be the folded kernel of output channel :math:`o`, :math:`\Delta_o` the part
of it that is cut and :math:`x` the input. An output is a sum over input channels and kernel cells,
and a cropped kernel leaves out the terms of :math:`\Delta_o`, each at most
:math:`|\Delta_{o,c,i,j}| \, \max|x|` (padding takes its values from :math:`x`, or is 0). Hence, for
every input and every position,

.. math:: |y_o - \hat y_o| \le \|\Delta_o\|_1 \max|x|.

The bound is reached: by the input of that size whose signs are those of :math:`\Delta_o`. In terms
of the tolerance :math:`t`, since each masked weight that is cut is below :math:`t\,|w|`,
:math:`\|\Delta_o\|_1 \le t\,\|w_o\|_1`. Rounding of the convolution itself comes on top.
"""
from __future__ import annotations

from typing import NamedTuple, Tuple

import torch
import torch.nn as nn
from torch import Tensor

from ..layers import GMConv2d


class Crop(NamedTuple):
    """What is cut from one layer's folded kernel.

    Attributes:
        kernel_size (tuple[int, int]): ``(K_h, K_w)`` before.
        cropped_size (tuple[int, int]): and after.
        bound (float): the largest change of any output for inputs within -1 and 1; it grows with
            the largest absolute value of the input.
        relative_bound (float): the same over the largest output that the layer can give such
            inputs, without its bias.
    """
    kernel_size: Tuple[int, int]
    cropped_size: Tuple[int, int]
    bound: float
    relative_bound: float

    @property
    def cut(self) -> tuple[int, int]:
        """Rows cut above and below, columns cut left and right."""
        rows, columns = ((k - c) // 2 for k, c in zip(self.kernel_size, self.cropped_size))
        return rows, columns

    def __str__(self) -> str:
        before, after = ('x'.join(map(str, size)) for size in (self.kernel_size, self.cropped_size))
        return (f'{before} to {after}, outputs change by at most {self.bound:.3g} times the input\'s '
                f'largest value ({self.relative_bound:.2%} of the largest output)')


def check_tolerance(tolerance: float) -> None:
    """Raises ``ValueError`` for a tolerance that is no number above 0 and below 1."""
    if (isinstance(tolerance, bool) or not isinstance(tolerance, (int, float))
            or not 0 < tolerance < 1):
        raise ValueError('crop must be None or a number above 0 and below 1, the mask\'s value below '
                         f'which rows and columns are cut (1e-3, say), got {tolerance!r}')


@torch.no_grad()
def crop_of(layer: GMConv2d, tolerance: float) -> Crop | None:
    """What a tolerance cuts from a static GMConv; None where it cuts nothing.

    No more is cut than the layer has padding for: a convolution without padding would have to leave
    out rows and columns of its input instead.

    Args:
        layer (GMConv2d): with a static mask.
        tolerance (float): rows and columns at the border go if the mask is below it in all of their
            cells; above 0, below 1.

    Raises:
        ValueError: a tolerance out of range, or a dynamic mask.
    """
    check_tolerance(tolerance)
    folded = layer.plain_weight()  # (C_out, C_in / groups, K_h, K_w)
    if folded is None:
        raise ValueError('a dynamic mask changes with the image: there is nothing to cut for all images')
    mask = layer.mask()  # (K_h, K_w)
    cut = []
    for axis, profile in enumerate((mask.amax(1), mask.amax(0))):  # (K_h,), (K_w,): both symmetric
        most = (len(profile) - 1) // 2
        if not isinstance(layer.padding, str):
            most = min(most, layer.padding[axis] // layer.dilation[axis])
        elif layer.padding == 'valid':
            most = 0
        small = [bool(value < tolerance) for value in profile[:most]]
        cut.append(small.index(False) if False in small else most)
    if not any(cut):
        return None
    weight = folded.double().abs()
    whole = weight.sum((1, 2, 3))
    left_out = weight.clone()
    rows, columns = cut
    centre(left_out, (rows, columns)).zero_()
    bound, largest = left_out.sum((1, 2, 3)).max().item(), whole.max().item()
    height, width = layer.kernel_size
    return Crop((height, width), (height - 2 * rows, width - 2 * columns), bound,
                bound / largest if largest else 0.)


def centre(kernel: Tensor, cut: tuple[int, int]) -> Tensor:
    """A view of ``(..., K_h, K_w)`` without ``cut`` rows above and below and columns on each side."""
    rows, columns = cut
    return kernel[..., rows:kernel.shape[-2] - rows, columns:kernel.shape[-1] - columns]


def crop_plan(model: nn.Module, tolerance: float) -> dict[str, Crop]:
    """What ``fold_gmconv(model, crop=tolerance)`` cuts, by the layer's name, with the bound on each
    layer's change. ```print(crop_plan(model, 1e-3))``.

    Raises:
        ValueError: a tolerance out of range.
    """
    check_tolerance(tolerance)
    crops = {name: crop_of(layer, tolerance) for name, layer in model.named_modules()
             if isinstance(layer, GMConv2d) and layer.sigma is not None}
    return {name: crop for name, crop in crops.items() if crop is not None}


def cropped_conv(conv: nn.Conv2d, crop: Crop) -> nn.Conv2d:
    """Cut a folded convolution, in place. Returns it."""
    conv.weight = nn.Parameter(centre(conv.weight.detach(), crop.cut).clone(
        memory_format=torch.preserve_format), conv.weight.requires_grad)
    conv.kernel_size = crop.cropped_size
    if not isinstance(conv.padding, str):
        conv.padding = tuple(p - c * d for p, c, d in zip(conv.padding, crop.cut, conv.dilation))
    # What nn.Conv2d keeps besides, for padding modes other than zeros and padding='same'.
    conv._reversed_padding_repeated_twice = [
        side - c * d for side, c, d in zip(conv._reversed_padding_repeated_twice,
                                           (crop.cut[1], crop.cut[1], crop.cut[0], crop.cut[0]),
                                           (conv.dilation[1], ) * 2 + (conv.dilation[0], ) * 2)]
    return conv
