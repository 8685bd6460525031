"""Where the image's rows and columns sit in the dimensions of a tensor.

Networks fold feature maps into tokens, windows and channels with ``view`` and ``permute``. To
follow them, every dimension is kept as an ordered product of factors (first is slowest): a factor
is a part of the rows, a part of the columns, or neither (batch, channels).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import Iterable, List, NamedTuple, Optional, Sequence, Tuple

from .axis_field import resize, strided, window
from .path_fields import GLOBAL, IMAGE, PathFields, join


class LayoutError(ValueError):
    """Image positions were rearranged in a way that has no regular receptive field."""


class Factor(NamedTuple):
    """``axis`` 0 rows, 1 columns, None neither; ``size`` values, ``step`` positions apart."""
    axis: Optional[int]
    size: int
    step: int = 1


Dim = Tuple[Factor, ...]


@dataclass(frozen=True)
class TensorField:
    """A tensor's layout and, for rows and columns, what its positions see.

    Attributes:
        dims: the factors of each dimension.
        axes: ``PathFields`` of rows and columns.
        sizes: positions of rows and columns, None where the tensor has no such axis any more.
    """
    dims: Tuple[Dim, ...]
    axes: Tuple[PathFields, PathFields]
    sizes: Tuple[Optional[int], Optional[int]]

    @property
    def is_global(self) -> bool:
        return self.sizes == (None, None)

    def finite_on(self, axis: int) -> bool:
        return self.axes[axis].is_finite


def image(shape: Sequence[int]) -> TensorField:
    """The field of the network's input, ``(N, C, H, W)``."""
    n, c, h, w = shape
    dims = (channels(n), channels(c), (Factor(0, h),), (Factor(1, w),))
    return TensorField(dims, (IMAGE, IMAGE), (h, w))


def channels(size: int) -> Dim:
    """A dimension that holds no image positions."""
    return (Factor(None, size),) if size > 1 else ()


def blank(shape: Sequence[int]) -> Tuple[Dim, ...]:
    return tuple(channels(size) for size in shape)


def spatial(dim: Iterable[Factor]) -> Tuple[Factor, ...]:
    return tuple(f for f in dim if f.axis is not None)


def reshape(dims: Sequence[Dim], shape: Sequence[int]) -> Tuple[Dim, ...]:
    """The layout after ``view(shape)``: factors are merged and split in order."""
    queue = deque(_merge(f for dim in dims for f in dim))
    result: List[Dim] = []
    for size in shape:
        need, dim = size, []
        if size == 1 and queue and queue[0].size == 1:
            dim.append(queue.popleft())
        while need > 1:
            if not queue:
                raise LayoutError(f'cannot follow the view to shape {tuple(shape)}')
            factor = queue.popleft()
            if need % factor.size == 0:
                dim.append(factor)
                need //= factor.size
            elif factor.size % need == 0:
                inner = factor.size // need
                dim.append(Factor(factor.axis, need, factor.step * inner))
                queue.appendleft(Factor(factor.axis, inner, factor.step))
                need = 1
            else:
                raise LayoutError(f'the view to {tuple(shape)} mixes rows, columns and channels')
        result.append(tuple(dim))
    if queue and result:
        result[-1] += tuple(queue)
    return tuple(result)


def _merge(factors: Iterable[Factor]) -> List[Factor]:
    merged: List[Factor] = []
    for factor in factors:
        last = merged[-1] if merged else None
        if factor.axis is None and factor.size == 1:
            continue
        if last and last.axis is None and factor.axis is None:
            merged[-1] = Factor(None, last.size * factor.size)
        elif (last and last.axis is not None and last.axis == factor.axis
                and last.step == factor.size * factor.step):
            merged[-1] = Factor(last.axis, last.size * factor.size, factor.step)
        else:
            merged.append(factor)
    return merged


def whole_axis(field: TensorField, dim: int) -> Tuple[TensorField, Optional[int]]:
    """The image axis which dimension ``dim`` holds, whole and in order, or None for no axis.

    Rows interleaved with channels (pixel shuffle) become a finer axis: the field is returned anew.
    """
    factors = field.dims[dim]
    found = spatial(factors)
    if not found:
        return field, None
    axis, positions = found[0].axis, field.sizes[found[0].axis]
    if len(found) > 1 or found[0] != Factor(axis, positions):
        raise LayoutError('the image axes are folded into windows or tokens here')
    if len(factors) == 1:
        return field, axis
    if len(factors) == 2 and factors[0] == found[0]:
        return _refine(field, dim, axis, factors[1].size), axis
    raise LayoutError('an image axis is mixed with channels here')


def _refine(field: TensorField, dim: int, axis: int, times: int) -> TensorField:
    finer = field.sizes[axis] * times
    axes = _with(field.axes, axis, field.axes[axis].through(resize(Fraction(times), (0,))))
    dims = _with(field.dims, dim, (Factor(axis, finer),))
    return TensorField(dims, axes, _with(field.sizes, axis, finer))


def mix(field: TensorField, factors: Iterable[Factor]) -> TensorField:
    """Every position comes to depend on all positions along ``factors`` (sum, matmul, softmax)."""
    axes = list(field.axes)
    for axis in (0, 1):
        mixed = sorted((f.step, f.size) for f in factors if f.axis == axis)
        if not mixed or not axes[axis].is_finite:
            continue
        inner, regular = 1, True
        for step, size in mixed:
            regular &= step == inner
            inner *= size
        if regular and inner < field.sizes[axis]:
            axes[axis] = axes[axis].through(window(inner))
        else:
            axes[axis] = GLOBAL
    return replace(field, axes=tuple(axes))


def settle(field: TensorField) -> TensorField:
    """Drop the positions that the layout no longer holds.

    An axis reduced inside its windows continues with one position a window; an axis that is gone is
    global from here on.
    """
    dims, axes, sizes = list(field.dims), list(field.axes), list(field.sizes)
    for axis in (0, 1):
        positions = sizes[axis]
        if positions is None:
            continue
        held = sorted({(f.step, f.size) for dim in dims for f in dim if f.axis == axis})
        covered = prod(size for _, size in held)
        if held and covered == positions:
            continue
        step = held[0][0] if held else positions
        if held and step > 1 and covered * step == positions:
            axes[axis] = axes[axis].through(strided(0, step))
            sizes[axis] = positions // step
            dims = [tuple(f._replace(step=f.step // step) if f.axis == axis else f for f in dim)
                    for dim in dims]
        else:
            axes[axis], sizes[axis] = GLOBAL, None
            dims = [tuple(Factor(None, f.size) if f.axis == axis else f for f in dim)
                    for dim in dims]
    return TensorField(tuple(dims), tuple(axes), tuple(sizes))


def broadcast(fields: Sequence[TensorField], shape: Sequence[int]) -> TensorField:
    """Join tensors elementwise into one of ``shape``, with the usual broadcasting.

    Raises:
        LayoutError: if two tensors hold the same image axis in different places.
    """
    fields = [_pad_dims(_refine_last(field), len(shape)) for field in fields]
    dims = []
    for d, size in enumerate(shape):
        held = [f.dims[d] for f in fields
                if spatial(f.dims[d]) and prod(x.size for x in f.dims[d]) == size]
        dims.append(held[0] if held else channels(size))
    axes, sizes = [], []
    for axis in (0, 1):
        place = _place(dims, axis)
        parts = []
        for field in fields:
            part = field.axes[axis]
            if field.sizes[axis] is not None and _place(field.dims, axis) != place:
                if field.sizes[axis] != 1:
                    raise LayoutError('joins maps whose rows or columns lie differently')
                part = GLOBAL   # one position spread over a larger map
            parts.append(part)
        positions = next((f.sizes[axis] for f in fields
                          if f.sizes[axis] is not None and _place(f.dims, axis) == place), None)
        axes.append(join(parts, positions or 1))
        sizes.append(positions if place else None)
    return settle(TensorField(tuple(dims), tuple(axes), tuple(sizes)))


def _place(dims: Sequence[Dim], axis: int) -> List[Tuple[int, Factor]]:
    return [(d - len(dims), f) for d, dim in enumerate(dims) for f in dim if f.axis == axis]


def _pad_dims(field: TensorField, count: int) -> TensorField:
    return replace(field, dims=((),) * (count - len(field.dims)) + tuple(field.dims))


def _refine_last(field: TensorField) -> TensorField:
    """Resolve a pixel shuffle's interleaved rows and columns before maps are compared."""
    if len(field.dims) != 4:
        return field
    for dim in (2, 3):
        factors = field.dims[dim]
        if len(factors) == 2 and spatial(factors) == factors[:1] and \
                factors[0].size == field.sizes[factors[0].axis]:
            field, _ = whole_axis(field, dim)
    return field


def _with(values: Sequence, index: int, value) -> Tuple:
    values = list(values)
    values[index] = value
    return tuple(values)
