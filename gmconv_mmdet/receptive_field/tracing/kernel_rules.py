"""Rules of the operators whose kernels slide over a map: convolution, pooling, resizing."""
from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import Sequence

from torch import Tensor

from .axis_field import Gather, bins, convolution, resize, strided, transposed_convolution
from .feature_layout import (
    Factor,
    LayoutError,
    TensorField,
    broadcast,
    channels,
    forget,
    mix,
    nowhere,
    reshape,
    settle,
    spatial,
    whole_axis,
)
from .field_rules import Call, rule


def _pairs(call: Call, *names: str) -> list[tuple[int, int]]:
    """Arguments of one number for both axes or one for each."""
    values = [call[name] if isinstance(call[name], (list, tuple)) else [call[name]] for name in names]
    return [(value[0], value[-1]) for value in values]


def _slide(call: Call, kind: str, field: TensorField, out: Tensor, kernel: Sequence[int],
           steps: Sequence[Sequence[int]], paths: Sequence[TensorField] = (), macs: int = 0,
           transposed: bool = False) -> TensorField:
    """The field behind a kernel over the last two dimensions, noted as a layer.

    Args:
        steps: stride, padding and dilation, each of both axes.
        paths: join the result: maps that the kernel's sampling points are computed from.
    """
    stride, padding, dilation = steps
    gather = transposed_convolution if transposed else convolution
    gathers = [gather(*numbers) for numbers in zip(kernel, *steps)]
    masked = call.masked_kernel and [d * (k - 1) + 1 for d, k in zip(dilation, call.masked_kernel)]
    result = _gather_maps(field, gathers, out, masked)
    result = _join_weights(call, broadcast([result, *paths], out.shape) if paths else result)
    call.note(kind, field, result, macs, kernel=tuple(kernel), stride=tuple(stride),
              dilation=tuple(dilation))
    return result


def _gather_maps(field: TensorField, gathers: Sequence[Gather], out: Tensor,
                 masked: Sequence[float] | None = None,
                 exact: Sequence[bool] = (True, True)) -> TensorField:
    """Apply one gather to each of the last two dimensions of a map."""
    folded = [f for dim in field.dims[1:-2] for f in spatial(dim)]
    if folded:   # positions were moved into the channels (space to depth): all are read together
        kept = tuple(channels(prod(f.size for f in dim)) for dim in field.dims[1:-2])
        field = settle(replace(mix(field, folded),
                               dims=(field.dims[0], *kept, *field.dims[-2:])))
    result = nowhere(out.shape)
    for i in (-2, -1):
        field, axis = whole_axis(field, len(field.dims) + i)
        if axis is not None:
            seen = field.axes[axis].through(gathers[i], masked[i] if masked else None, exact[i])
            size = out.shape[i]
            result = result.with_axis(axis, seen, size).with_dim(i, (Factor(axis, size),))
    if len(field.dims) > 2 and spatial(field.dims[0]):
        raise LayoutError('an image axis lies in the batch dimension of a map')
    return result


def _join_weights(call: Call, result: TensorField) -> TensorField:
    """A kernel computed from the image (dynamic convolution) is one more path into the result."""
    for field in filter(None, (call.field_of(call.args.get(name)) for name in ('weight', 'bias'))):
        result = replace(result, axes=tuple(
            replace(a, is_global=a.is_global or b.is_global or b.is_finite)
            for a, b in zip(result.axes, field.axes)))
    return result


@rule('convolution')
def _convolution(call: Call) -> TensorField:
    field, weight, out = call.field, call['weight'], call.out
    if field is None:
        return _join_weights(call, nowhere(out.shape))
    if weight.dim() != 4:
        return _convolution_1d(call, field)
    transposed = call['transposed']
    positions = (call['input'] if transposed else out).shape
    return _slide(call, 'transposed convolution' if transposed else 'convolution', field, out,
                  weight.shape[2:], _pairs(call, 'stride', 'padding', 'dilation'),
                  macs=positions[0] * prod(positions[2:]) * weight.numel(), transposed=transposed)


def _convolution_1d(call: Call, field: TensorField) -> TensorField:
    """Over tokens with a 1-wide kernel, or along channels (ECA); not along an image axis."""
    if call['weight'].dim() != 3:
        raise LayoutError('only 1-D and 2-D convolutions have a place in an image network')
    kept = field.dims[2]
    if not spatial(kept):
        kept = channels(call.out.shape[2])
    elif call['weight'].shape[2] != 1 or call['transposed']:
        raise LayoutError('a 1-D convolution runs along flattened image positions')
    dims = field.dims[0], channels(call.out.shape[1]), kept
    return settle(replace(mix(field, field.dims[1]), dims=dims))


@rule('deform_conv2d')
def _deform_convolution(call: Call) -> TensorField:
    """torchvision's; the sampling points move with the image, counted is the nominal grid."""
    weight, out = call['weight'], call.out
    offsets = [f for f in map(call.field_of, (call['offset'], call['mask'])) if f is not None]
    grid = [(call[f'{name}_h'], call[f'{name}_w']) for name in ('stride', 'pad', 'dilation')]
    return _slide(call, 'deformable convolution', call.field, out, weight.shape[2:], grid,
                  offsets, macs=out.shape[0] * prod(out.shape[2:]) * weight.numel())


@rule('max_pool2d_with_indices', 'avg_pool2d')
def _pool(call: Call) -> TensorField:
    kernel, padding = _pairs(call, 'kernel_size', 'padding')
    stride = _pairs(call, 'stride')[0] if call['stride'] else kernel
    dilation = _pairs(call, 'dilation')[0] if 'dilation' in call.args else (1, 1)
    return _slide(call, 'pooling', call.field, call.first_out, kernel,
                  (stride, padding, dilation))


@rule('_adaptive_avg_pool2d', 'adaptive_avg_pool2d', 'adaptive_max_pool2d')
def _adaptive_pool(call: Call) -> TensorField:
    """To one position: global. To more: the bins, whose size follows the input's."""
    field, out = call.field, call.first_out
    gathers = [bins(i, o) for i, o in zip(call.source.shape[-2:], out.shape[-2:])]
    result = _gather_maps(field, gathers, out)
    for dim in (out.dim() - 2, out.dim() - 1):
        if out.shape[dim] == 1:
            result = forget(result, dim)
    call.note('global pooling' if result.is_global else 'adaptive pooling', field, result)
    return result


@rule('im2col')
def _unfold(call: Call) -> TensorField:
    kernel, *steps = _pairs(call, 'kernel_size', 'stride', 'padding', 'dilation')
    size = [(n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(call.source.shape[-2:], kernel, *steps)]
    shape = (*call.out.shape[:2], *size)
    result = _slide(call, 'unfold', call.field, call.out.new_empty(shape), kernel, steps)
    return replace(result, dims=reshape(result.dims, (*shape[:2], prod(size))))


@rule('pixel_unshuffle')
def _pixel_unshuffle(call: Call) -> TensorField:
    times = (call['downscale_factor'],) * 2
    return _slide(call, 'space to depth', call.field, call.out, times,
                  (times, (0, 0), (1, 1)))


@rule('pixel_shuffle')
def _pixel_shuffle(call: Call) -> TensorField:
    return _gather_maps(call.field, [resize(Fraction(call['upscale_factor']), (0,))] * 2, call.out)


def nominal_ratio(source: int, target: int) -> Fraction:
    """The resize that was meant.

    FPN resizes 13 positions to 25: twice, less the position that an odd size lost on the way down.
    Taken literally 25/13 would drift against the map that it is added to.
    """
    small, large = sorted((source, target))
    for k in (-(-large // small), large // small):
        if small in (large // k, -(-large // k)):
            return Fraction(k) if target >= source else Fraction(1, k)
    return Fraction(target, source)


@rule('upsample_nearest2d', '_upsample_nearest_exact2d', 'upsample_bilinear2d',
      '_upsample_bilinear2d_aa', 'upsample_bicubic2d')
def _resize(call: Call) -> TensorField:
    reach = (0,) if 'nearest' in call.name else (0, 1) if 'bilinear' in call.name else (-1, 0, 1, 2)
    sizes = list(zip(call.source.shape[-2:], call.out.shape[-2:]))
    ratios = [nominal_ratio(*size) for size in sizes]
    exact = [ratio == Fraction(target, source) and not (ratio != 1 and call.args.get('align_corners'))
             for ratio, (source, target) in zip(ratios, sizes)]
    gathers = [resize(ratio, reach) if ratio != 1 else strided(0) for ratio in ratios]
    result = _gather_maps(call.field, gathers, call.out, exact=exact)
    call.note('resize', call.field, result)
    return result
