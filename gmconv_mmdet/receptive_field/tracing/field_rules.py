"""How each ATen operator carries receptive fields from its inputs to its outputs.

One function a rule, named after the operator's family, registered in ``RULES`` under ATen's names.
A rule gets the :class:`Call` and returns the ``TensorField`` of the outputs (one for all, or a
list). Operators which ATen tags as pointwise need no rule; those of kernels and resizing are in
:mod:`.kernel_rules`.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any, Callable, Sequence

from torch import Tensor

from .axis_field import Gather, PathFields, join, strided
from .feature_layout import (
    Factor,
    LayoutError,
    TensorField,
    blank,
    broadcast,
    channels,
    forget,
    mix,
    reshape,
    settle,
    spatial,
    whole_axis,
)

RULES: dict[str, Callable[[Call], Any]] = {}


@dataclass
class Call:
    """One operator call: arguments by name, ``field_of`` its tensors, ``note`` a layer."""
    name: str
    args: dict[str, Any]
    out: Any
    field_of: Callable[[Any], TensorField | None]
    note: Callable[..., None]
    masked_kernel: tuple[float, float] | None = None

    def __getitem__(self, key: str) -> Any:
        return self.args[key]

    @property
    def first_out(self) -> Tensor:
        return self.out[0] if isinstance(self.out, (tuple, list)) and self.out else self.out

    @property
    def source(self) -> Tensor:
        return next(iter(self.args.values()))

    @property
    def field(self) -> TensorField | None:
        """The field of the first argument."""
        return self.field_of(self.source)

    @property
    def dim(self) -> int:
        """The argument ``dim``, counted from the front."""
        return self['dim'] % self.source.dim()

    def fields(self) -> list[TensorField]:
        """The fields of all tensors among the arguments, lists included."""
        items = [item for value in self.args.values()
                 for item in (value if isinstance(value, (list, tuple)) else (value,))]
        return [field for field in map(self.field_of, items) if field is not None]


def rule(*names: str) -> Callable:
    def register(function: Callable) -> Callable:
        RULES.update(dict.fromkeys(names, function))
        return function
    return register


# Padding, shifting, taking parts

def _shift(field: TensorField, dim: int, gather: Gather, size: int) -> TensorField:
    """A gather along one dimension of any tensor; along channels only the size changes."""
    field, axis = whole_axis(field, dim)
    if axis is None:
        return field.with_dim(dim, channels(size))
    seen = field.axes[axis].through(gather)
    return field.with_axis(axis, seen, size).with_dim(dim, (Factor(axis, size),))


@rule('constant_pad_nd', 'reflection_pad2d', 'replication_pad2d')
def _pad(call: Call) -> TensorField:
    field, pads = call.field, call.args.get('pad') or call['padding']
    for dim, before, after in zip(reversed(range(call.out.dim())), pads[::2], pads[1::2]):
        if before or after:
            field = _shift(field, dim, strided(-before), call.out.shape[dim])
    return field


@rule('roll')
def _roll(call: Call) -> TensorField:
    """A shift; what wraps around is taken for padding (Swin masks it)."""
    field, out = call.field, call.out
    if not call['dims']:
        raise LayoutError('torch.roll without dims flattens the image')
    for shift, dim in zip(call['shifts'], call['dims']):
        field = _shift(field, dim % out.dim(), strided(-shift), out.shape[dim])
    return field


@rule('slice')
def _slice(call: Call) -> TensorField:
    dim, length = call.dim, call.source.shape[call.dim]
    start = call['start'] or 0
    start = max(0, start + length) if start < 0 else min(start, length)
    if call.out.shape[dim] == length:
        return call.field
    return _shift(call.field, dim, strided(start, call['step']), call.out.shape[dim])


@rule('split', 'split_with_sizes')
def _split(call: Call) -> list[TensorField]:
    dim, start, results = call.dim, 0, []
    for part in call.out:
        results.append(call.field if part.shape == call.source.shape else
                       _shift(call.field, dim, strided(start), part.shape[dim]))
        start += part.shape[dim]
    return results


@rule('select', 'unbind')
def _select(call: Call) -> TensorField | list[TensorField]:
    if call.name == 'unbind':
        return [_take(call.field, call.dim, index) for index in range(len(call.out))]
    return _take(call.field, call.dim, call['index'] % call.source.shape[call.dim])


def _take(field: TensorField, dim: int, index: int) -> TensorField:
    for axis, _, step in spatial(field.dims[dim]):
        if len(field.dims[dim]) == 1 and step == 1:
            field = field.with_axis(axis, field.axes[axis].through(strided(index)), field.sizes[axis])
    return settle(replace(field, dims=field.dims[:dim] + field.dims[dim + 1:]))


@rule('index_select', 'gather', 'index', 'flip', 'topk', 'sort')
def _index(call: Call) -> TensorField:
    """Along channels or batch only."""
    field, out = call.field, call.first_out
    if field is None:
        raise LayoutError('looks up values at positions that are computed from the image')
    if call.name == 'index':
        touched = [d for d, index in enumerate(call['indices']) if index is not None]
    else:
        touched = [d % len(field.dims) for d in call.args.get('dims', [call.args.get('dim')])]
    if any(spatial(field.dims[d]) for d in touched) or out.dim() != len(field.dims):
        raise LayoutError(f'{call.name} rearranges image positions')
    for d in touched:
        field = field.with_dim(d, channels(out.shape[d]))
    return field


# Folding: views, permutations, joining along channels

@rule('view', '_unsafe_view', '_reshape_alias', 'squeeze', 'view_copy')
def _view(call: Call) -> TensorField:
    return replace(call.field, dims=reshape(call.field.dims, call.out.shape))


@rule('unsqueeze')
def _unsqueeze(call: Call) -> TensorField:
    dims, dim = call.field.dims, call['dim'] % call.out.dim()
    return replace(call.field, dims=dims[:dim] + ((),) + dims[dim:])


@rule('permute', 'permute_copy', 'transpose', 't')
def _permute(call: Call) -> TensorField:
    order = list(range(call.out.dim()))
    if 'dims' in call.args:
        order = call['dims']
    elif len(order) > 1:
        a, b = call.args.get('dim0', 0), call.args.get('dim1', -1)
        order[a], order[b] = order[b], order[a]
    return replace(call.field, dims=tuple(call.field.dims[d] for d in order))


@rule('expand', 'repeat')
def _expand(call: Call) -> TensorField:
    field, shape = call.field, call.out.shape
    held = ((),) * (len(shape) - len(field.dims)) + field.dims
    return settle(replace(field, dims=tuple(
        dim if prod(f.size for f in dim) == size else channels(size)
        for dim, size in zip(held, shape))))


@rule('cat', 'stack')
def _cat(call: Call) -> TensorField:
    """Along channels a join; along an image axis refused."""
    dim, out = call['dim'] % call.out.dim(), call.out
    fields = [f for f in map(call.field_of, call['tensors']) if f is not None]
    if call.name == 'stack':
        fields = [replace(f, dims=f.dims[:dim] + ((),) + f.dims[dim:]) for f in fields]
    for i, field in enumerate(fields):
        if not field.is_global:
            if any(field.sizes[f.axis] != 1 for f in spatial(field.dims[dim])):
                raise LayoutError('concatenates along an image axis (tokens are appended, or maps '
                                  'are put side by side)')
            field = forget(field, dim)
        fields[i] = field.with_dim(dim, channels(out.shape[dim]))
    return broadcast(fields, out.shape)


# Reductions, products, normalisation

@rule('mean', 'sum', 'amax', 'amin', 'max', 'min', 'var', 'std', 'var_mean', 'linalg_vector_norm',
      'norm', 'logsumexp', 'argmax', 'prod')
def _reduce(call: Call) -> TensorField:
    field, gone = call.field, call.args.get('dim')
    count = len(field.dims)
    gone = range(count) if gone is None or gone == [] else gone
    gone = [d % count for d in (gone if isinstance(gone, (list, tuple, range)) else [gone])]
    field = mix(field, [f for d in gone for f in field.dims[d]])
    for d in gone:
        if any(f.size == field.sizes[f.axis] for f in spatial(field.dims[d])):
            field = forget(field, d)
    field = settle(replace(field, dims=tuple(
        () if d in gone else dim for d, dim in enumerate(field.dims)
        if call.args.get('keepdim') or d not in gone)))
    if field.is_global and not call.field.is_global:
        call.note('global pooling', call.field, field)
    return field


@rule('_softmax', '_safe_softmax', '_log_softmax', 'cumsum')
def _softmax(call: Call) -> TensorField:
    return broadcast([call.field, mix(call.field, call.field.dims[call.dim])], call.out.shape)


@rule('native_batch_norm', '_native_batch_norm_legit_no_training', 'cudnn_batch_norm',
      '_native_batch_norm_legit', 'native_group_norm', 'native_layer_norm')
def _normalise(call: Call) -> TensorField:
    """With running statistics pointwise; with statistics of this image's positions (instance,
    group and layer normalisation) a global path too."""
    field = call.field
    if 'layer' in call.name:
        is_global = any(map(spatial, field.dims[-len(call['normalized_shape']):]))
    else:
        is_global = 'group' in call.name or call.args.get('training', False)
    return field if not is_global else replace(
        field, axes=tuple(replace(seen, is_global=True) for seen in field.axes))


@rule('mm', 'bmm', 'addmm', 'baddbmm', 'mv', 'addmv')
def _matmul(call: Call) -> TensorField:
    *added, left, right = [value for value in call.args.values() if isinstance(value, Tensor)]
    a, b, out = call.field_of(left), call.field_of(right), call.out
    dims, parts, summed = list(blank(out.shape)), [], []
    if a is not None:
        *rows, tail = a.dims
        parts.append(mix(a, tail))
        dims[:len(rows)] = rows
        dims[-1] += tuple(f for f in spatial(tail) if f.size == 1)
        summed += tail
    if b is not None:
        contracted, columns = b.dims[-2:] if len(b.dims) > 1 else (b.dims[-1], ())
        part = mix(b, contracted)
        summed += contracted if len(b.dims) > 1 else ()
        if a is not None and len(a.dims) > 1 and spatial(a.dims[-2]):
            # Attention scores: queries keep the rows; what the keys see spreads over all keys.
            part = mix(part, columns)
        else:
            dims[-1] = columns
            if len(b.dims) == 3 and not spatial(dims[0]):
                dims[0] = b.dims[0]
        parts.append(part)
    result = settle(_product(dims, parts))
    extra = [field for field in map(call.field_of, added) if field is not None]
    if extra:
        result = broadcast([result, *extra], out.shape)
    kind: str | None = 'linear'
    if a is not None and b is not None:
        kind = 'attention' if any(f.size > 1 for f in spatial(summed)) else None
    source = b if a is None or a.is_global and b is not None else a
    call.note(kind, source, result, macs=out.numel() * left.shape[-1])
    return result


def _product(dims: Sequence, parts: Sequence[TensorField]) -> TensorField:
    """Join operands of a product that share their positions, axis by axis."""
    axes: list[PathFields] = []
    sizes: list[int | None] = []
    for axis in (0, 1):
        finite = {p.sizes[axis] for p in parts if p.axes[axis].is_finite}
        if len(finite) > 1:
            raise LayoutError('multiplies maps of different sizes')
        held = [p.sizes[axis] for p in parts if p.sizes[axis] is not None
                and any(f.axis == axis for dim in dims for f in dim)]
        size = next(iter([*finite, *held]), None)
        axes.append(join([p.axes[axis] for p in parts], size if finite else 1))
        sizes.append(size)
    return TensorField(tuple(dims), tuple(axes), tuple(sizes))


# Data movement, and elementwise without ATen's pointwise tag

@rule('_to_copy', 'native_dropout', 'hardswish', '_prelu_kernel', 'detach', 'alias', 'lift_fresh',
      'rrelu_with_noise', 'as_strided_', 'clone',
      # Activations that torch 2.1 and before do not tag as pointwise, or not in place.
      'hardtanh', 'leaky_relu', 'elu', 'relu6', 'silu', 'gelu', 'mish', 'hardsigmoid', 'celu',
      'selu', 'threshold', 'softplus', 'log_sigmoid_forward', 'rrelu')
def elementwise(call: Call) -> TensorField:
    return broadcast(call.fields(), call.first_out.shape)


@rule('glu')
def _glu(call: Call) -> TensorField:
    return _shift(call.field, call.dim, strided(0), call.out.shape[call.dim])


@rule('channel_shuffle')
def _channel_shuffle(call: Call) -> TensorField:
    return call.field


@rule('copy_', 'copy')
def _copy(call: Call) -> TensorField | None:
    source = call.field_of(call['src'])
    return None if source is None else broadcast([source], call['self'].shape)


@rule('empty', 'empty_like', 'new_empty', 'new_zeros', 'new_ones', 'new_full', 'zeros_like',
      'ones_like', 'full_like', 'rand_like', 'randn_like', 'zero_', 'fill_', 'bernoulli_', 'uniform_',
      'normal_', 'sym_size', 'is_same_size', 'random_')
def _create(call: Call) -> None:
    """The result holds nothing of the image."""
