"""How each ATen operator carries receptive fields from its inputs to its outputs.

One function a rule, named after the operator's family, registered in ``RULES`` under ATen's names.
A rule gets the :class:`Call` and returns the ``TensorField`` of the outputs (one for all, or a
list). Operators which ATen tags as pointwise need no rule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .axis_field import Gather, bins, convolution, resize, strided, transposed_convolution
from .feature_layout import (
    Dim,
    LayoutError,
    TensorField,
    blank,
    broadcast,
    channels,
    mix,
    reshape,
    settle,
    spatial,
    whole_axis,
)
from .path_fields import GLOBAL, join

Rule = Callable  # of a Call; gives the field, or a tuple of fields
RULES: Dict[str, Rule] = {}


@dataclass
class Call:
    """One operator call: arguments by name, ``field_of`` its tensors, ``note`` a layer."""
    name: str
    args: Dict[str, Any]
    out: Any
    field_of: Callable[[Any], Optional[TensorField]]
    note: Callable[..., None]
    masked_kernel: Optional[Tuple[float, float]] = None

    def __getitem__(self, key: str) -> Any:
        return self.args[key]

    @property
    def first_out(self) -> Tensor:
        return self.out[0] if isinstance(self.out, (tuple, list)) else self.out

    @property
    def source(self) -> Tensor:
        return next(iter(self.args.values()))

    def fields(self) -> List[TensorField]:
        """The fields of all tensors among the arguments, lists included."""
        found = []
        for value in self.args.values():
            for item in value if isinstance(value, (list, tuple)) else (value,):
                field = self.field_of(item)
                if field is not None:
                    found.append(field)
        return found


def rule(*names: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function
    return register


def pair(value: Any, default: int = 0) -> Tuple[int, int]:
    value = list(value) if isinstance(value, (list, tuple)) else [value]
    if not value:
        return default, default
    return (value[0], value[-1])


def slide(call: Call, kind: str, field: TensorField, out: Tensor, kernel: Sequence[int],
          stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int] = (1, 1),
          paths: Sequence[TensorField] = (), macs: int = 0, transposed: bool = False) -> TensorField:
    """The field behind a kernel that slides over the last two dimensions, noted as a layer.

    ``paths`` join the result: maps that the kernel's sampling points are computed from.
    """
    steps = transposed_convolution if transposed else convolution
    gathers = [steps(*numbers) for numbers in zip(kernel, stride, padding, dilation)]
    masked = call.masked_kernel and [d * (k - 1) + 1 for d, k in zip(dilation, call.masked_kernel)]
    result = gather_maps(field, gathers, out, masked)
    result = join_weights(call, broadcast([result, *paths], out.shape) if paths else result)
    call.note(kind, field, result, tuple(kernel), tuple(stride), tuple(dilation), macs=macs)
    return result


def gather_maps(field: TensorField, gathers: Sequence[Gather], out: Tensor,
                masked: Optional[Sequence[Optional[float]]] = None,
                exact: Sequence[bool] = (True, True)) -> TensorField:
    """Apply one gather to each of the last two dimensions of a map."""
    folded = [f for dim in field.dims[1:-2] for f in spatial(dim)]
    if folded:   # positions were moved into the channels (space to depth): all are read together
        lead = (field.dims[0],) + tuple(channels(prod(f.size for f in dim))
                                        for dim in field.dims[1:-2])
        field = settle(replace(mix(field, folded), dims=lead + field.dims[-2:]))
    dims, axes, sizes = list(blank(out.shape)), list(field.axes), [None, None]
    for i in (-2, -1):
        field, axis = whole_axis(field, len(field.dims) + i)
        if axis is None:
            continue
        axes[axis] = field.axes[axis].through(gathers[i], masked[i] if masked else None, exact[i])
        sizes[axis] = out.shape[i]
        dims[i] = (spatial(field.dims[i])[0]._replace(size=out.shape[i]),)
    if len(field.dims) > 2 and spatial(field.dims[0]):
        raise LayoutError('an image axis lies in the batch dimension of a map')
    axes = [GLOBAL if size is None else seen for size, seen in zip(sizes, axes)]
    return TensorField(tuple(dims), tuple(axes), tuple(sizes))


def join_weights(call: Call, result: TensorField) -> TensorField:
    """A kernel computed from the image (dynamic convolution) is one more path into the result."""
    for field in filter(None, (call.field_of(call.args.get(name)) for name in ('weight', 'bias'))):
        result = replace(result, axes=tuple(
            replace(a, is_global=a.is_global or b.is_global or b.is_finite)
            for a, b in zip(result.axes, field.axes)))
    return result


# Convolution and pooling

@rule('convolution')
def _convolution(call: Call) -> TensorField:
    field, weight, out = call.field_of(call['input']), call['weight'], call.out
    if field is None:
        return join_weights(call, TensorField(blank(out.shape), (GLOBAL, GLOBAL), (None, None)))
    if weight.dim() != 4:
        return _convolution_1d(call, field)
    transposed = call['transposed']
    positions = (call['input'] if transposed else out).shape
    stride, padding, dilation = (pair(call[k]) for k in ('stride', 'padding', 'dilation'))
    return slide(call, 'transposed convolution' if transposed else 'convolution', field, out,
                 weight.shape[2:], stride, padding, dilation, transposed=transposed,
                 macs=positions[0] * prod(positions[2:]) * weight.numel())


def _convolution_1d(call: Call, field: TensorField) -> TensorField:
    """Over tokens with a 1-wide kernel, or along channels (ECA); not along an image axis."""
    out = call.out
    if call['weight'].dim() != 3:
        raise LayoutError('only 1-D and 2-D convolutions have a place in an image network')
    if spatial(field.dims[2]):
        if call['weight'].shape[2] != 1 or call['transposed']:
            raise LayoutError('a 1-D convolution runs along flattened image positions')
        kept = field.dims[2]
    else:
        kept = channels(out.shape[2])
    field = mix(field, field.dims[1])
    return settle(replace(field, dims=(field.dims[0], channels(out.shape[1]), kept)))


@rule('deform_conv2d')
def _deform_convolution(call: Call) -> TensorField:
    """torchvision's; the sampling points move with the image, counted is the nominal grid."""
    weight, out = call['weight'], call.out
    offsets = [f for f in (call.field_of(call['offset']), call.field_of(call['mask']))
               if f is not None]
    stride, padding, dilation = ((call[f'{k}_h'], call[f'{k}_w'])
                                 for k in ('stride', 'pad', 'dilation'))
    return slide(call, 'deformable convolution', call.field_of(call['input']), out, weight.shape[2:],
                 stride, padding, dilation, offsets,
                 macs=out.shape[0] * prod(out.shape[2:]) * weight.numel())


@rule('max_pool2d_with_indices', 'max_pool2d', 'avg_pool2d')
def _pool(call: Call) -> TensorField:
    kernel = pair(call['kernel_size'])
    return slide(call, 'pooling', call.field_of(call.source), call.first_out, kernel,
                 pair(call['stride']) if call['stride'] else kernel, pair(call['padding']),
                 pair(call.args.get('dilation', 1)))


@rule('_adaptive_avg_pool2d', 'adaptive_avg_pool2d', 'adaptive_max_pool2d')
def _adaptive_pool(call: Call) -> TensorField:
    """To one position: global. To more: the bins, whose size follows the input's."""
    field, source, out = call.field_of(call.source), call.source, call.first_out
    gathers = [bins(i, o) for i, o in zip(source.shape[-2:], out.shape[-2:])]
    result = gather_maps(field, gathers, out)
    for i in (-2, -1):
        if out.shape[i] == 1:
            result = _forget(result, i)
    call.note('global pooling' if result.is_global else 'adaptive pooling', field, result)
    return result


def _forget(field: TensorField, dim: int) -> TensorField:
    """The positions of one dimension are pooled away."""
    gone = spatial(field.dims[dim])
    dims = list(field.dims)
    dims[dim] = tuple(f for f in field.dims[dim] if f.axis is None)
    axes = tuple(GLOBAL if any(f.axis == a for f in gone) else field.axes[a] for a in (0, 1))
    sizes = tuple(None if any(f.axis == a for f in gone) else field.sizes[a] for a in (0, 1))
    return TensorField(tuple(dims), axes, sizes)


# Resizing, padding, shifting

def nominal_ratio(source: int, target: int) -> Tuple[Fraction, bool]:
    """The resize that was meant, and whether ``target / source`` is exactly it.

    FPN resizes 13 positions to 25: twice, less the position that an odd size lost on the way down.
    Taken literally 25/13 would drift against the map that it is added to.
    """
    exact = Fraction(target, source)
    if target >= source:
        k = -(-target // source)
        nominal = Fraction(k) if source in (target // k, -(-target // k)) else exact
    else:
        k = -(-source // target)
        k = k if target in (source // k, -(-source // k)) else source // target
        nominal = Fraction(1, k) if target in (source // k, -(-source // k)) else exact
    return nominal, nominal == exact


@rule('upsample_nearest2d', '_upsample_nearest_exact2d', 'upsample_bilinear2d',
      '_upsample_bilinear2d_aa', 'upsample_bicubic2d')
def _resize(call: Call) -> TensorField:
    field, source, out = call.field_of(call.source), call.source, call.out
    reach = (0,) if 'nearest' in call.name else (0, 1) if 'bilinear' in call.name else (-1, 0, 1, 2)
    gathers, exact = [], []
    for i in (-2, -1):
        ratio, is_exact = nominal_ratio(source.shape[i], out.shape[i])
        gathers.append(resize(ratio, reach) if ratio != 1 else strided(0))
        exact.append(is_exact and not (call.args.get('align_corners') and ratio != 1))
    result = gather_maps(field, gathers, out, exact=exact)
    call.note('resize', field, result)
    return result


@rule('constant_pad_nd', 'reflection_pad2d', 'replication_pad2d')
def _pad(call: Call) -> TensorField:
    field, out = call.field_of(call['self']), call.out
    pads = call.args.get('pad') or call['padding']
    for i in range(len(pads) // 2):
        dim = out.dim() - 1 - i
        before, after = pads[2 * i:2 * i + 2]
        if before or after:
            field = _shift(field, dim, strided(-before), out.shape[dim])
    return field


def _shift(field: TensorField, dim: int, gather: Gather, size: int) -> TensorField:
    """A gather along one dimension of any tensor; along channels only the size changes."""
    field, axis = whole_axis(field, dim) if spatial(field.dims[dim]) else (field, None)
    dims, axes, sizes = list(field.dims), list(field.axes), list(field.sizes)
    if axis is None:
        dims[dim] = channels(size)
    else:
        dims[dim] = (dims[dim][0]._replace(size=size),)
        axes[axis], sizes[axis] = axes[axis].through(gather), size
    return TensorField(tuple(dims), tuple(axes), tuple(sizes))


@rule('roll')
def _roll(call: Call) -> TensorField:
    """A shift; what wraps around is taken for padding (Swin masks it)."""
    field, out = call.field_of(call['self']), call.out
    if not call['dims']:
        raise LayoutError('torch.roll without dims flattens the image')
    for shift, dim in zip(call['shifts'], call['dims']):
        field = _shift(field, dim % out.dim(), strided(-shift), out.shape[dim])
    return field


@rule('slice')
def _slice(call: Call) -> TensorField:
    dim = call['dim'] % call['self'].dim()
    length, field = call['self'].shape[dim], call.field_of(call['self'])
    start = call['start'] or 0
    start = max(0, start + length) if start < 0 else min(start, length)
    if call.out.shape[dim] == length:
        return field
    return _shift(field, dim, strided(start, call['step']), call.out.shape[dim])


@rule('split', 'split_with_sizes', 'chunk')
def _split(call: Call) -> List[TensorField]:
    dim = call['dim'] % call['self'].dim()
    field, start, results = call.field_of(call['self']), 0, []
    for part in call.out:
        results.append(field if part.shape == call['self'].shape else
                       _shift(field, dim, strided(start), part.shape[dim]))
        start += part.shape[dim]
    return results


@rule('select')
def _select(call: Call) -> TensorField:
    dim = call['dim'] % call['self'].dim()
    return _take(call.field_of(call['self']), dim, call['index'] % call['self'].shape[dim])


@rule('unbind')
def _unbind(call: Call) -> List[TensorField]:
    dim = call['dim'] % call['self'].dim()
    return [_take(call.field_of(call['self']), dim, i) for i in range(call['self'].shape[dim])]


def _take(field: TensorField, dim: int, index: int) -> TensorField:
    axes = list(field.axes)
    for factor in spatial(field.dims[dim]):
        if len(field.dims[dim]) == 1 and factor.step == 1 and axes[factor.axis].is_finite:
            axes[factor.axis] = axes[factor.axis].through(strided(index))
    return settle(replace(field, dims=field.dims[:dim] + field.dims[dim + 1:], axes=tuple(axes)))


@rule('im2col')
def _unfold(call: Call) -> TensorField:
    source = call['self']
    kernel, stride, padding, dilation = (
        pair(call[k]) for k in ('kernel_size', 'stride', 'padding', 'dilation'))
    size = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in
            zip(source.shape[-2:], kernel, stride, padding, dilation)]
    shape = source.shape[0], call.out.shape[1], *size
    result = slide(call, 'unfold', call.field_of(source), call.out.new_empty(shape), kernel, stride,
                   padding, dilation)
    return replace(result, dims=reshape(result.dims, (*shape[:2], prod(size))))


# Folding: views, permutations, joining along channels

@rule('view', '_unsafe_view', 'reshape', '_reshape_alias', 'squeeze', 'view_copy', 'flatten')
def _view(call: Call) -> TensorField:
    field = call.field_of(call.source)
    return replace(field, dims=reshape(field.dims, call.out.shape))


@rule('unsqueeze')
def _unsqueeze(call: Call) -> TensorField:
    field, dim = call.field_of(call['self']), call['dim'] % call.out.dim()
    return replace(field, dims=field.dims[:dim] + ((),) + field.dims[dim:])


@rule('permute', 'permute_copy')
def _permute(call: Call) -> TensorField:
    field = call.field_of(call['self'])
    return replace(field, dims=tuple(field.dims[d] for d in call['dims']))


@rule('transpose', 't', 'numpy_T')
def _transpose(call: Call) -> TensorField:
    field = call.field_of(call['self'])
    a, b = call.args.get('dim0', 0), call.args.get('dim1', -1)
    dims = list(field.dims)
    if len(dims) > 1:
        dims[a], dims[b] = dims[b], dims[a]
    return replace(field, dims=tuple(dims))


@rule('expand', 'repeat', 'expand_as')
def _expand(call: Call) -> TensorField:
    field, shape = call.field_of(call['self']), call.out.shape
    offset, dims = len(shape) - len(field.dims), []
    for d, size in enumerate(shape):
        dim = field.dims[d - offset] if d >= offset else ()
        dims.append(dim if prod(f.size for f in dim) == size else channels(size))
    return settle(replace(field, dims=tuple(dims)))


@rule('pixel_shuffle')
def _pixel_shuffle(call: Call) -> TensorField:
    times = Fraction(call['upscale_factor'])
    return gather_maps(call.field_of(call['self']), [resize(times, (0,))] * 2, call.out)


@rule('pixel_unshuffle')
def _pixel_unshuffle(call: Call) -> TensorField:
    times = (call['downscale_factor'],) * 2
    return slide(call, 'space to depth', call.field_of(call['self']), call.out, times, times, (0, 0))


@rule('cat', 'stack')
def _cat(call: Call) -> TensorField:
    """Along channels a join; along an image axis refused."""
    dim, out = call['dim'] % call.out.dim(), call.out
    fields = [f for f in map(call.field_of, call['tensors']) if f is not None]
    if call.name == 'stack':
        fields = [replace(f, dims=f.dims[:dim] + ((),) + f.dims[dim:]) for f in fields]
    sized = [f for f in fields if not f.is_global]
    if any(spatial(f.dims[dim]) for f in sized):
        if all(f.sizes[x.axis] == 1 for f in sized for x in spatial(f.dims[dim])):
            fields = [f if f not in sized else _forget(f, dim) for f in fields]
        else:
            raise LayoutError('concatenates along an image axis (tokens are appended, or maps are '
                              'put side by side)')
    kept = [replace(f, dims=f.dims[:dim] + (channels(out.shape[dim]),) + f.dims[dim + 1:])
            for f in fields]
    return broadcast(kept, out.shape)


# Reductions, products, normalisation

def _reduced_dims(call: Call, count: int) -> List[int]:
    dims = call.args.get('dim')
    if dims is None or dims == []:
        return list(range(count))
    return [d % count for d in (dims if isinstance(dims, (list, tuple)) else [dims])]


@rule('mean', 'sum', 'amax', 'amin', 'max', 'min', 'var', 'std', 'var_mean', 'linalg_vector_norm',
      'norm', 'logsumexp', 'argmax', 'prod')
def _reduce(call: Call) -> TensorField:
    field = call.field_of(call['self'])
    if 'other' in call.args:
        return broadcast(call.fields(), call.out.shape)
    gone = _reduced_dims(call, len(field.dims))
    keep = call.args.get('keepdim', False)
    was = field
    field = mix(field, [f for d in gone for f in field.dims[d] if f.size > 1])
    for d in gone:
        if any(f.size == field.sizes[f.axis] for f in spatial(field.dims[d])):
            field = _forget(field, d)
    dims = tuple(() if d in gone else dim for d, dim in enumerate(field.dims)
                 if keep or d not in gone)
    field = settle(replace(field, dims=dims))
    if not was.is_global and field.is_global:
        call.note('global pooling', was, field)
    return field


@rule('_softmax', '_safe_softmax', '_log_softmax', 'cumsum')
def _softmax(call: Call) -> TensorField:
    field = call.field_of(call['self'])
    mixed = mix(field, field.dims[call['dim']])
    return broadcast([field, mixed], call.out.shape)


@rule('native_batch_norm', '_native_batch_norm_legit_no_training', 'cudnn_batch_norm',
      '_native_batch_norm_legit', 'batch_norm', 'native_group_norm', 'native_layer_norm')
def _normalise(call: Call) -> TensorField:
    """With running statistics pointwise; with statistics of this image's positions (instance,
    group and layer normalisation) a global path too."""
    field = call.field_of(call['input'])
    if 'group' in call.name:
        is_global = True
    elif 'layer' in call.name:
        is_global = any(map(spatial, field.dims[len(field.dims) - len(call['normalized_shape']):]))
    else:
        is_global = call.args.get('training', False)
    return field if not is_global else replace(
        field, axes=tuple(replace(a, is_global=True) for a in field.axes))


@rule('mm', 'bmm', 'addmm', 'baddbmm', 'mv', 'dot', 'addmv', 'linear')
def _matmul(call: Call) -> TensorField:
    left, right = [v for k, v in call.args.items() if isinstance(v, Tensor)
                   and k not in ('bias',)][-2:]
    a, b = call.field_of(left), call.field_of(right)
    out = call.out
    dims, parts = list(blank(out.shape)), []
    inner = left.shape[-1]
    row_dims = a.dims[:-1] if a is not None else ()
    tokens = bool(row_dims) and bool(spatial(row_dims[-1]))
    if a is not None:
        tail = a.dims[-1]
        parts.append(_contract(a, tail))
        dims[:len(row_dims)] = row_dims
        dims[-1] += tuple(f for f in spatial(tail) if f.size == 1)
    if b is not None and call.name != 'linear':
        contracted = b.dims[-2] if len(b.dims) > 1 else b.dims[-1]
        columns = b.dims[-1] if len(b.dims) > 1 else ()
        if tokens:
            # Attention scores: queries keep the rows; what the keys see spreads over all keys.
            parts.append(_contract(_contract(b, contracted), columns))
        else:
            parts.append(_contract(b, contracted))
            dims[-1] = columns
            if len(b.dims) == 3 and not spatial(dims[0]):
                dims[0] = b.dims[0]
    extra = [f for f in (call.field_of(call.args.get(k)) for k in ('self', 'bias', 'input'))
             if f is not None and call.name in ('addmm', 'baddbmm', 'addmv')]
    axes, sizes = _combine(dims, parts)
    result = settle(TensorField(tuple(dims), axes, sizes))
    if extra:
        result = broadcast([result, *extra], out.shape)
    macs = out.numel() * inner
    mixes = (a is not None and any(f.size > 1 for f in spatial(a.dims[-1]))) or \
            (b is not None and len(b.dims) > 1 and any(f.size > 1 for f in spatial(b.dims[-2])))
    if a is not None and b is not None:
        call.note('attention' if mixes else None, b if a.is_global else a, result, macs=macs)
    else:
        call.note('linear', a if a is not None else b, result, macs=macs)
    return result


def _contract(field: TensorField, dim: Dim) -> TensorField:
    return mix(field, [f for f in spatial(dim) if f.size > 1])


def _combine(dims: Sequence[Dim], parts: Sequence[TensorField]) -> Tuple[Tuple, Tuple]:
    """Join operands of a product that share their positions, axis by axis."""
    axes, sizes = [], []
    for axis in (0, 1):
        held = any(f.axis == axis for dim in dims for f in dim)
        counts = {p.sizes[axis] for p in parts if p.axes[axis].is_finite}
        if len(counts) > 1:
            raise LayoutError('multiplies maps of different sizes')
        finite = counts.pop() if counts else None
        known = [p.sizes[axis] for p in parts if p.sizes[axis] is not None]
        axes.append(join([p.axes[axis] for p in parts], finite or 1))
        sizes.append(finite if finite is not None else (known[0] if held and known else None))
    return tuple(axes), tuple(sizes)


# Elementwise without ATen's pointwise tag, and data movement

@rule('_to_copy', 'native_dropout', 'glu', 'hardswish', '_prelu_kernel', 'detach', 'alias',
      'lift_fresh', 'contiguous', 'to', 'view_as', 'nan_to_num', 'dropout', 'rrelu_with_noise',
      'as_strided_', 'clone',
      # Activations that torch 2.1 and before do not tag as pointwise, or not in place.
      'hardtanh', 'leaky_relu', 'elu', 'relu6', 'silu', 'gelu', 'mish', 'hardsigmoid', 'celu',
      'selu', 'threshold', 'softplus', 'prelu', 'log_sigmoid_forward', 'rrelu')
def _elementwise(call: Call) -> TensorField:
    out, fields = call.first_out, call.fields()
    if call.name == 'glu':
        dim = call['dim'] % out.dim()
        return _shift(fields[0], dim, strided(0), out.shape[dim])
    return broadcast(fields, out.shape)


@rule('channel_shuffle')
def _channel_shuffle(call: Call) -> TensorField:
    return call.field_of(call['self'])


@rule('index_select', 'gather', 'index', 'flip', 'topk', 'sort')
def _index(call: Call) -> TensorField:
    """Along channels or batch only."""
    field, out = call.field_of(call.source), call.out
    if field is None:
        raise LayoutError('looks up values at positions that are computed from the image')
    outs = out if isinstance(out, (tuple, list)) else (out,)
    if call.name == 'index':
        touched = [d for d, index in enumerate(call['indices']) if index is not None]
    elif call.name == 'flip':
        touched = [d % len(field.dims) for d in call['dims']]
    else:
        touched = [call['dim'] % len(field.dims)]
    if any(spatial(field.dims[d]) for d in touched) or outs[0].dim() != len(field.dims):
        raise LayoutError(f'{call.name} rearranges image positions')
    dims = tuple(channels(outs[0].shape[d]) if d in touched else dim
                 for d, dim in enumerate(field.dims))
    return replace(field, dims=dims)


@rule('copy_', 'copy')
def _copy(call: Call) -> Optional[TensorField]:
    source = call.field_of(call['src'])
    return None if source is None else broadcast([source], call['self'].shape)


CREATES = frozenset((
    'empty', 'empty_like', 'new_empty', 'new_zeros', 'new_ones', 'new_full', 'zeros_like',
    'ones_like', 'full_like', 'rand_like', 'randn_like', 'zero_', 'fill_', 'bernoulli_', 'uniform_',
    'normal_', 'sym_size', 'is_same_size', 'random_'))
"""Operators whose result holds nothing of the image."""


def is_pointwise(func: torch._ops.OpOverload) -> bool:
    return torch.Tag.pointwise in func.tags
