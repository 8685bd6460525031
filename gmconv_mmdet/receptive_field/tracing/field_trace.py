"""Run a network once without data and follow the receptive field of every tensor.

The network runs on PyTorch's meta device (shapes only, nothing is computed), so that a forward pass
of any size takes a fraction of a second, and every operator that reaches ATen is seen, whatever
Python code called it. Modules give the operators their names.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import torch
import torch.nn as nn
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ...torch_version import require_torch
from .axis_field import IrregularFieldError
from .feature_layout import LayoutError, TensorField, blank, broadcast, image
from .field_rules import CREATES, RULES, Call, is_pointwise
from .nominal_grid import nominal_grid
from .path_fields import GLOBAL


class ReceptiveFieldError(RuntimeError):
    """The network can't be analysed; the message names the layer, the operator and the reason."""


@dataclass(frozen=True)
class Step:
    """One layer as it ran: the fields before and behind it, its kernel and its cost.

    ``kind`` is what it does; what doesn't apply to it is None.
    """
    owner: str
    kind: str
    source: TensorField
    result: TensorField
    kernel: Optional[Tuple[int, int]]
    stride: Optional[Tuple[int, int]]
    dilation: Optional[Tuple[int, int]]
    macs: int


@dataclass(frozen=True)
class Trace:
    """All steps in order, the fields at the network's outputs, behind every module, and the
    cost."""
    steps: List[Step]
    outputs: List[TensorField]
    modules: Dict[str, TensorField]
    macs: int


class _ByTensor:
    """A dictionary with tensors as keys, told apart by identity. It keeps them, which costs nothing on
    the meta device, so that no identity is given twice."""

    def __init__(self) -> None:
        self._entries: Dict[int, Tuple[Tensor, TensorField]] = {}

    def __setitem__(self, tensor: Tensor, field: TensorField) -> None:
        self._entries[id(tensor)] = tensor, field

    def __contains__(self, tensor: Tensor) -> bool:
        return id(tensor) in self._entries

    def __getitem__(self, tensor: Tensor) -> TensorField:
        return self._entries[id(tensor)][1]

    def get(self, tensor: Tensor, default: Optional[TensorField] = None) -> Optional[TensorField]:
        return self._entries[id(tensor)][1] if tensor in self else default


def require_meta_device() -> None:
    """Raise :class:`~gmconv_mmdet.torch_version.NewerTorchNeeded` before torch 2.0, in which a network
    can't be kept on the meta device."""
    require_torch('receptive-field analysis', hasattr(torch.device, '__enter__'), '2.0')


class FieldTracer(TorchDispatchMode):
    """Follows fields through every operator that runs inside the context."""

    def __init__(self, masked_kernels: Mapping[str, Tuple[float, float]]):
        super().__init__()
        self.fields = _ByTensor()
        self.steps: List[Step] = []
        self.macs = 0
        self.owners: List[Tuple[str, str]] = [('', '')]
        self.masked_kernels = masked_kernels
        self.deforms = False

    def field_of(self, value: Any) -> Optional[TensorField]:
        return self.fields.get(value) if isinstance(value, Tensor) else None

    def note(self, kind: Optional[str], source: TensorField, result: TensorField,
             kernel: Optional[Tuple[int, int]] = None, stride: Optional[Tuple[int, int]] = None,
             dilation: Optional[Tuple[int, int]] = None, macs: int = 0) -> None:
        self.macs += macs
        if kind is None:
            return
        if self.deforms and kind == 'convolution':
            kind = 'deformable convolution'
        self.steps.append(Step(self.owners[-1][0], kind, source, result, kernel, stride, dilation,
                               macs))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        call = self._call(func, args, kwargs or {}, out)
        fields = call.fields()
        if fields:
            try:
                self._assign(out, self._result(func, call, fields), call)
            except (LayoutError, IrregularFieldError) as error:
                raise self.refusal(f'{call.name}: {error}') from error
        return out

    def refusal(self, reason: str) -> ReceptiveFieldError:
        name, kind = self.owners[-1]
        return ReceptiveFieldError(f'{name or "the network"} ({kind}), {reason}')

    def _call(self, func, args, kwargs, out) -> Call:
        schema = func._schema
        bound = {a.name: a.default_value for a in schema.arguments}
        bound.update(zip(bound, args))
        bound.update(kwargs)
        name = schema.name.split('::')[-1]
        return Call(name, bound, out, self.field_of, self.note,
                    self.masked_kernels.get(self.owners[-1][0]))

    def _result(self, func, call: Call, fields: List[TensorField]):
        rule = RULES.get(call.name) or RULES.get(call.name.rstrip('_'))
        if rule is not None:
            return rule(call)
        if is_pointwise(func):
            return broadcast(fields, _first(call.out).shape)
        if call.name in CREATES or not isinstance(_first(call.out), Tensor):
            return None
        if all(field.is_global for field in fields):
            return TensorField(blank(_first(call.out).shape), (GLOBAL, GLOBAL), (None, None))
        raise LayoutError('no receptive-field rule is known for this operator')

    def _assign(self, out: Any, result: Any, call: Call) -> None:
        outs = out if isinstance(out, (tuple, list)) else (out,)
        results = result if isinstance(result, list) else [result] * len(outs)
        for tensor, field in zip(outs, results):
            if not isinstance(tensor, Tensor) or field is None:
                continue
            if tensor is _first(list(call.args.values())) and tensor._is_view():
                self._write_through(tensor, field)
            # Side outputs (batch statistics, pooling indices) are never the image's map.
            if len(field.dims) == tensor.dim():
                self.fields[tensor] = field

    def _write_through(self, view: Tensor, field: TensorField) -> None:
        """An in-place change of a view also changes the tensor that it shows a part of."""
        before, base = self.field_of(view), view._base
        whole = self.field_of(base)
        if before is not None and before.axes == field.axes:
            return
        if base.dim() == view.dim() and (base.shape[-2:] == view.shape[-2:]):
            parts = [field] if whole is None else [whole, field]
            self.fields[base] = broadcast(
                [TensorField(tuple(blank(base.shape[:-2])) + p.dims[-2:], p.axes, p.sizes)
                 for p in parts], base.shape)
        else:
            raise LayoutError('writes into a part of a map in place')


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, (tuple, list)) and values else values


def on_meta(module: nn.Module) -> nn.Module:
    """A copy of ``module`` in evaluation mode and fp32 whose tensors have shapes and no data.

    Parameters are never duplicated: the copy is made around their meta twins.
    """
    twins: Dict[int, Any] = {}
    for part in module.modules():
        for _, value in list(part._parameters.items()) + list(part._buffers.items()) + list(
                vars(part).items()):
            if isinstance(value, nn.Parameter):
                twins[id(value)] = nn.Parameter(value.detach().to('meta'), value.requires_grad)
            elif isinstance(value, Tensor):
                twins[id(value)] = value.detach().to('meta')
    twin = copy.deepcopy(module, twins)
    twin.eval()   # some modules' eval() returns None
    return twin.float()


@contextmanager
def _named(module: nn.Module, tracer: FieldTracer, seen: Dict[str, TensorField]) -> Iterator[None]:
    """Tell the tracer which module is running."""
    handles = []

    def enter(name: str, kind: str):
        return lambda *_: tracer.owners.append((name, kind))

    def leave(name: str):
        def hook(_, __, output):
            tracer.owners.pop()
            tensors = _tensors(output)
            for i, tensor in enumerate(tensors):
                field = tracer.field_of(tensor)
                if field is not None:
                    seen[name if tensor is output else f'{name}[{i}]'] = field
        return hook

    for name, part in module.named_modules():
        handles.append(part.register_forward_pre_hook(enter(name, type(part).__name__)))
        handles.append(part.register_forward_hook(leave(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def trace(module: nn.Module, input_size: Tuple[int, int], channels: int = 3,
          masked_kernels: Optional[Mapping[str, Tuple[float, float]]] = None) -> Trace:
    """Follow the receptive fields through one forward pass of ``module``.

    Args:
        module: takes one image tensor ``(1, channels, H, W)``; it is copied, not changed.
        input_size: ``(H, W)`` in pixels.
        channels: of the image.
        masked_kernels: kernel size ``(h, w)`` that counts for layers with a mask, by name.

    Raises:
        ReceptiveFieldError: if the network does something that has no receptive field, or can't run
            at this size; the message says what and where.
    """
    require_meta_device()
    twin = on_meta(module)
    tracer = FieldTracer(masked_kernels or {})
    seen: Dict[str, TensorField] = {}
    picture = torch.empty(1, channels, *input_size, device='meta')
    tracer.fields[picture] = image(picture.shape)
    with torch.no_grad(), torch.device('meta'), nominal_grid(tracer), _named(twin, tracer, seen):
        try:
            with tracer:
                output = twin(picture)
        except ReceptiveFieldError:
            raise
        except LayoutError as error:
            raise tracer.refusal(str(error)) from error
        except Exception as error:
            reason = str(error).strip().splitlines()
            raise tracer.refusal(
                f'cannot run at {input_size[0]} x {input_size[1]} pixels without data: '
                f'{type(error).__name__}: {reason[0] if reason else ""}') from error
    outputs = [field for field in map(tracer.field_of, _tensors(output)) if field is not None]
    if not outputs:
        raise ReceptiveFieldError('the output does not depend on the image')
    return Trace(tracer.steps, outputs, seen, tracer.macs)


def _tensors(value: Any) -> List[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    return []
