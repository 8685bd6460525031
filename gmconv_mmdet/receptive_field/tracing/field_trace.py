"""Run a network once without data and follow the receptive field of every tensor.

The network runs on PyTorch's meta device (shapes only, nothing is computed), so that a forward pass
of any size takes a fraction of a second, and every operator that reaches ATen is seen, whatever
Python code called it. Modules give the operators their names.
"""
from __future__ import annotations

import copy
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Mapping

import torch
import torch.nn as nn
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ...torch_version import require_torch
from . import kernel_rules  # noqa: F401, registers its rules
from .axis_field import IrregularFieldError
from .feature_layout import LayoutError, TensorField, blank, broadcast, image, nowhere
from .field_rules import RULES, Call, elementwise
from .nominal_grid import nominal_grid


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
    macs: int = 0
    kernel: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    dilation: tuple[int, int] | None = None


def require_meta_device() -> None:
    """Raise :class:`~gmconv_mmdet.torch_version.NewerTorchNeeded` before torch 2.0, in which a network
    can't be kept on the meta device."""
    require_torch('receptive-field analysis', hasattr(torch.device, '__enter__'), '2.0')


class FieldTracer(TorchDispatchMode):
    """Follows fields through every operator that runs inside the context.

    Attributes:
        steps: all layers, in the order in which they ran.
        macs: multiply-adds of all of them.
        modules: the field behind every module, by name.
        outputs: the fields at the network's outputs.
    """

    def __init__(self, masked_kernels: Mapping[str, tuple[float, float]]):
        super().__init__()
        self.steps: list[Step] = []
        self.macs = 0
        self.modules: dict[str, TensorField] = {}
        self.outputs: list[TensorField] = []
        self.owners = [('', '')]  # names and classes of the modules that run
        self.deforms = False  # the next convolution stands in for a deformable one
        self._masked_kernels = masked_kernels
        # By identity; the tensors are kept, at no cost without data, so that none is given twice.
        self._fields: dict[int, TensorField] = {}
        self._kept: list[Tensor] = []

    def field_of(self, value: Any) -> TensorField | None:
        return self._fields.get(id(value)) if isinstance(value, Tensor) else None

    def keep(self, tensor: Tensor, field: TensorField) -> None:
        self._kept.append(tensor)
        self._fields[id(tensor)] = field

    def note(self, kind: str | None, source: TensorField, result: TensorField, macs: int = 0,
             **kernel: Any) -> None:
        """A layer, with ``kernel``, ``stride``, ``dilation`` if any; without ``kind`` its cost alone."""
        self.macs += macs
        if self.deforms and kind == 'convolution':
            kind = 'deformable convolution'
        if kind is not None:
            self.steps.append(Step(self.owners[-1][0], kind, source, result, macs, **kernel))

    def refusal(self, reason: str) -> ReceptiveFieldError:
        name, kind = self.owners[-1]
        return ReceptiveFieldError(f'{name or "the network"} ({kind}), {reason}')

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        bound = {a.name: a.default_value for a in func._schema.arguments}
        bound.update(zip(bound, args))
        bound.update(kwargs or {})
        call = Call(func._schema.name.split('::')[-1], bound, out, self.field_of, self.note,
                    self._masked_kernels.get(self.owners[-1][0]))
        if call.fields():
            try:
                self._assign(call, self._result(func, call))
            except (LayoutError, IrregularFieldError) as error:
                raise self.refusal(f'{call.name}: {error}') from error
        return out

    def _result(self, func, call: Call) -> Any:
        rule = RULES.get(call.name) or RULES.get(call.name.rstrip('_'))
        if rule is None and torch.Tag.pointwise in func.tags:
            rule = elementwise
        if rule is not None:
            return rule(call)
        if not isinstance(call.first_out, Tensor):
            return None
        if all(field.is_global for field in call.fields()):
            return nowhere(call.first_out.shape)
        raise LayoutError('no receptive-field rule is known for this operator')

    def _assign(self, call: Call, result: Any) -> None:
        outs = call.out if isinstance(call.out, (tuple, list)) else (call.out,)
        results = result if isinstance(result, list) else [result] * len(outs)
        for tensor, field in zip(outs, results):
            if not isinstance(tensor, Tensor) or field is None:
                continue
            if tensor is call.source and tensor._is_view():
                self._write_through(tensor, field)
            # Side outputs (batch statistics, pooling indices) are never the image's map.
            if len(field.dims) == tensor.dim():
                self.keep(tensor, field)

    def _write_through(self, view: Tensor, field: TensorField) -> None:
        """An in-place change of a view also changes the tensor that it shows a part of."""
        before, base = self.field_of(view), view._base
        if before is not None and before.axes == field.axes:
            return
        if base.dim() != view.dim() or base.shape[-2:] != view.shape[-2:]:
            raise LayoutError('writes into a part of a map in place')
        parts = [field] if self.field_of(base) is None else [self.field_of(base), field]
        parts = [TensorField(blank(base.shape[:-2]) + p.dims[-2:], p.axes, p.sizes) for p in parts]
        self.keep(base, broadcast(parts, base.shape))


def on_meta(module: nn.Module) -> nn.Module:
    """A copy of ``module`` in evaluation mode and fp32 whose tensors have shapes and no data.

    Parameters are never duplicated: the copy is made around their meta twins.
    """
    twins: dict[int, Any] = {}
    for part in module.modules():
        for value in (*part._parameters.values(), *part._buffers.values(), *vars(part).values()):
            if isinstance(value, nn.Parameter):
                twins[id(value)] = nn.Parameter(value.detach().to('meta'), value.requires_grad)
            elif isinstance(value, Tensor):
                twins[id(value)] = value.detach().to('meta')
    twin = copy.deepcopy(module, twins)
    twin.eval()   # some modules' eval() returns None
    return twin.float()


def _follow(stack: ExitStack, tracer: FieldTracer, name: str, module: nn.Module) -> None:
    """Tell the tracer while a module runs, and keep the fields behind it."""
    def enter(*_: Any) -> None:
        tracer.owners.append((name, type(module).__name__))

    def leave(_, __, output: Any) -> None:
        tracer.owners.pop()
        for i, tensor in enumerate(_tensors(output)):
            field = tracer.field_of(tensor)
            if field is not None:
                tracer.modules[name if tensor is output else f'{name}[{i}]'] = field

    stack.callback(module.register_forward_pre_hook(enter).remove)
    stack.callback(module.register_forward_hook(leave).remove)


def trace(module: nn.Module, input_size: tuple[int, int], channels: int = 3,
          masked_kernels: Mapping[str, tuple[float, float]] | None = None) -> FieldTracer:
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
    picture = torch.empty(1, channels, *input_size, device='meta')
    tracer.keep(picture, image(picture.shape))
    with ExitStack() as stack, torch.no_grad(), torch.device('meta'), nominal_grid(tracer):
        for name, part in twin.named_modules():
            _follow(stack, tracer, name, part)
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
    tracer.outputs = [field for field in map(tracer.field_of, _tensors(output)) if field is not None]
    if not tracer.outputs:
        raise ReceptiveFieldError('the output does not depend on the image')
    return tracer


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    return []
