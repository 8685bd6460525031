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
from typing import Iterable, NamedTuple, Optional, Sequence, Tuple

from .axis_field import GLOBAL, IMAGE, PathFields, join, resize, strided, window


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
    dims: tuple[Dim, ...]
    axes: tuple[PathFields, PathFields]
    sizes: tuple[int | None, int | None]

    @property
    def is_global(self) -> bool:
        return self.sizes == (None, None)

    def with_dim(self, d: int, dim: Dim) -> TensorField:
        return replace(self, dims=_with(self.dims, d, dim))

    def with_axis(self, axis: int, seen: PathFields, size: int | None) -> TensorField:
        return replace(self, axes=_with(self.axes, axis, seen), sizes=_with(self.sizes, axis, size))


def _with(values: Sequence, index: int, value) -> tuple:
    values = list(values)
    values[index] = value
    return tuple(values)


def image(shape: Sequence[int]) -> TensorField:
    """The field of the network's input, ``(N, C, H, W)``."""
    n, c, h, w = shape
    dims = (channels(n), channels(c), (Factor(0, h),), (Factor(1, w),))
    return TensorField(dims, (IMAGE, IMAGE), (h, w))


def nowhere(shape: Sequence[int]) -> TensorField:
    """The field of a tensor that holds no image positions: it sees the whole image."""
    return TensorField(blank(shape), (GLOBAL, GLOBAL), (None, None))


def channels(size: int) -> Dim:
    """A dimension that holds no image positions."""
    return (Factor(None, size),) if size > 1 else ()


def blank(shape: Sequence[int]) -> tuple[Dim, ...]:
    return tuple(channels(size) for size in shape)


def spatial(dim: Iterable[Factor]) -> Dim:
    return tuple(f for f in dim if f.axis is not None)


def reshape(dims: Sequence[Dim], shape: Sequence[int]) -> tuple[Dim, ...]:
    """The layout after ``view(shape)``: factors are merged and split in order."""
    queue = deque(_merge(f for dim in dims for f in dim))
    result: list[Dim] = []
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


def _merge(factors: Iterable[Factor]) -> list[Factor]:
    """Neighbours that hold one piece of an axis, or no axis, as one factor."""
    merged: list[Factor] = []
    for factor in factors:
        if factor.axis is None and factor.size == 1:
            continue
        last = merged[-1] if merged else None
        if last and last.axis == factor.axis and (
                factor.axis is None or last.step == factor.size * factor.step):
            merged[-1] = Factor(last.axis, last.size * factor.size, factor.step)
        else:
            merged.append(factor)
    return merged


def whole_axis(field: TensorField, dim: int) -> tuple[TensorField, int | None]:
    """The image axis which dimension ``dim`` holds, whole and in order, or None for no axis.

    Rows interleaved with channels (pixel shuffle) become a finer axis: the field is returned anew.
    """
    factors = field.dims[dim]
    found = spatial(factors)
    if not found:
        return field, None
    axis = found[0].axis
    if found != (Factor(axis, field.sizes[axis]),):
        raise LayoutError('the image axes are folded into windows or tokens here')
    if len(factors) == 1:
        return field, axis
    if len(factors) != 2 or factors[0] != found[0]:
        raise LayoutError('an image axis is mixed with channels here')
    times = factors[1].size
    finer = field.sizes[axis] * times
    seen = field.axes[axis].through(resize(Fraction(times), (0,)))
    return field.with_axis(axis, seen, finer).with_dim(dim, (Factor(axis, finer),)), axis


def mix(field: TensorField, factors: Iterable[Factor]) -> TensorField:
    """Every position comes to depend on all positions along ``factors`` (sum, matmul, softmax)."""
    for axis in (0, 1):
        mixed = sorted((f.step, f.size) for f in factors if f.axis == axis and f.size > 1)
        if not mixed or not field.axes[axis].is_finite:
            continue
        inner, regular = 1, True
        for step, size in mixed:
            regular &= step == inner
            inner *= size
        seen = GLOBAL
        if regular and inner < field.sizes[axis]:
            seen = field.axes[axis].through(window(inner))
        field = field.with_axis(axis, seen, field.sizes[axis])
    return field


def forget(field: TensorField, dim: int) -> TensorField:
    """The positions of one dimension are pooled away."""
    for factor in spatial(field.dims[dim]):
        field = field.with_axis(factor.axis, GLOBAL, None)
    return field.with_dim(dim, tuple(f for f in field.dims[dim] if f.axis is None))


def settle(field: TensorField) -> TensorField:
    """Drop the positions that the layout no longer holds.

    An axis reduced inside its windows continues with one position a window; an axis that is gone is
    global from here on.
    """
    for axis, positions in enumerate(field.sizes):
        held = sorted({(f.step, f.size) for dim in field.dims for f in dim if f.axis == axis})
        covered = prod(size for _, size in held)
        if positions is None or held and covered == positions:
            continue
        step = held[0][0] if held else 1
        kept = step > 1 and covered * step == positions
        seen = field.axes[axis].through(strided(0, step)) if kept else GLOBAL
        parts = {f: Factor(axis, f.size, f.step // step) if kept else Factor(None, f.size)
                 for dim in field.dims for f in dim if f.axis == axis}
        dims = tuple(tuple(parts.get(f, f) for f in dim) for dim in field.dims)
        field = field.with_axis(axis, seen, positions // step if kept else None)
        field = replace(field, dims=dims)
    return field


def broadcast(fields: Sequence[TensorField], shape: Sequence[int]) -> TensorField:
    """Join tensors elementwise into one of ``shape``, with the usual broadcasting.

    Raises:
        LayoutError: if two tensors hold the same image axis in different places.
    """
    fields = [_comparable(field, len(shape)) for field in fields]
    dims = []
    for d, size in enumerate(shape):
        held = [f.dims[d] for f in fields
                if spatial(f.dims[d]) and prod(x.size for x in f.dims[d]) == size]
        dims.append(held[0] if held else channels(size))
    axes, sizes = [], []
    for axis in (0, 1):
        place = _place(dims, axis)
        parts, positions = [], None
        for field in fields:
            part, size = field.axes[axis], field.sizes[axis]
            if size is not None and _place(field.dims, axis) == place:
                positions = positions or size
            elif size == 1:
                part = GLOBAL   # one position spread over a larger map
            elif size is not None:
                raise LayoutError('joins maps whose rows or columns lie differently')
            parts.append(part)
        axes.append(join(parts, positions or 1))
        sizes.append(positions if place else None)
    return settle(TensorField(tuple(dims), tuple(axes), tuple(sizes)))


def _place(dims: Sequence[Dim], axis: int) -> list[tuple[int, Factor]]:
    return [(d, f) for d, dim in enumerate(dims) for f in dim if f.axis == axis]


def _comparable(field: TensorField, count: int) -> TensorField:
    """With ``count`` dimensions, a pixel shuffle's interleaved rows and columns resolved."""
    for d in (2, 3) if len(field.dims) == 4 else ():
        factors = field.dims[d]
        if len(factors) == 2 and spatial(factors) == factors[:1] and \
                factors[0].size == field.sizes[factors[0].axis]:
            field, _ = whole_axis(field, d)
    return replace(field, dims=((),) * (count - len(field.dims)) + field.dims)
