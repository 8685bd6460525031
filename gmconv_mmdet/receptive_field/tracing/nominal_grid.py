"""Stand-ins for mmcv's compiled operators while a network is traced.

mmcv's operators write their results from C++, out of ATen's sight, and don't run without data.
While a trace runs, their ``forward`` is replaced by ATen operators that read the same input
positions: a deformable convolution its nominal grid (its sampling points move with the image, by no
bound that the architecture gives), CARAFE its reassembly kernel. The originals are back when the
trace ends.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from typing import Any, Iterator

import torch.nn.functional as F
from torch import Tensor

from .feature_layout import LayoutError


def _joined(result: Tensor, *others: Tensor) -> Tensor:
    """``result`` made to depend on ``others``, maps of the same size."""
    for other in others:
        if other.shape[-2:] != result.shape[-2:]:
            # DyHead does this; the compiled operator then reads the offsets of other positions.
            raise LayoutError(f'the offsets are a map of {tuple(other.shape[-2:])}, '
                              f'the result is one of {tuple(result.shape[-2:])}')
        result = result + other.sum(1, keepdim=True)
    return result


@contextmanager
def nominal_grid(tracer: Any) -> Iterator[None]:
    """Replace the compiled operators for the duration of the context.

    A module that mmcv never imported can't be in the network, so nothing is imported here.
    """
    def grid(*arguments):
        tracer.deforms = True
        try:
            return F.conv2d(*arguments)
        finally:
            tracer.deforms = False

    def deform_conv(ctx, x, offset, weight, stride=1, padding=0, dilation=1, groups=1, *_):
        return _joined(grid(x, weight, None, stride, padding, dilation, groups), offset)

    def modulated_deform_conv(ctx, x, offset, mask, weight, bias, stride=1, padding=0, dilation=1,
                              groups=1, *_):
        return _joined(grid(x, weight, bias, stride, padding, dilation, groups), offset, mask)

    def carafe(ctx, features, masks, kernel_size, group_size, scale_factor):
        reach = F.max_pool2d(features, kernel_size, 1, kernel_size // 2)
        return _joined(F.interpolate(reach, scale_factor=scale_factor), masks)

    with ExitStack() as stack:
        for module, name, stand_in in (
                ('deform_conv', 'DeformConv2dFunction', deform_conv),
                ('modulated_deform_conv', 'ModulatedDeformConv2dFunction', modulated_deform_conv),
                ('carafe', 'CARAFEFunction', carafe), ('carafe', 'CARAFENaiveFunction', carafe)):
            if f'mmcv.ops.{module}' in sys.modules:
                function = getattr(sys.modules[f'mmcv.ops.{module}'], name)
                stack.callback(setattr, function, 'forward', vars(function)['forward'])
                function.forward = staticmethod(stand_in)
        yield
