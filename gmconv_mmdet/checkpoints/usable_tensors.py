"""Which tensors of a checkpoint can become a network's, told before any of them is touched."""
from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..messages import shortened
from .checkpoint_file import CheckpointError

# Beyond these a checkpoint's names are no network's.
_LONGEST_NAME = 1000
# How many bytes tensors may claim beyond those that are stored (of `expand`ed tensors).
_MOST_EXPANDED = 2**26
# What a network computes with. Other buffers may hold an infinity (a mask of attention).
_NUMBERS = frozenset(('weight', 'bias', 'running_mean', 'running_var', 'sigma', 'w0', 'w1', 'b1'))


def tensors_by_name(container: object) -> dict[str, Tensor]:
    """The entries of a state dict that are tensors with a name.

    Raises:
        CheckpointError: a name that no network's tensor has: longer than 1000 characters, or with
            characters that can't be printed.
    """
    if not isinstance(container, dict):
        return {}
    tensors = {name: value for name, value in container.items()
               if isinstance(name, str) and isinstance(value, Tensor)}
    for name in tensors:
        if len(name) > _LONGEST_NAME or not name.isprintable():
            raise CheckpointError(f'a tensor is named {name[:60]!r}{"..." * (len(name) > 60)} '
                                  f'({len(name)} characters), as none in a network is: the file is '
                                  'damaged or hostile')
    return tensors


def refuse_unusable(tensors: Mapping[str, Tensor]) -> None:
    """Raise a :class:`CheckpointError` for tensors that no network can use: without values (meta),
    sparse, nested, quantized or complex ones, integers where a network computes, more values than
    are stored, and values that are NaN or, where a network computes, infinite."""
    kinds: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        kind = _unusable_kind(name, tensor)
        if kind:
            kinds.setdefault(kind, []).append(name)
    if kinds:
        raise CheckpointError('the checkpoint holds tensors that no network can load: ' + '; '.join(
            f'{shortened(names)} {"is" if len(names) == 1 else "are"} {kind}'
            for kind, names in kinds.items()) + '. Save the plain floating-point weights')
    _refuse_expanded(tensors)
    bad = [(name, count) for name, count in (
        (name, _not_numbers(name, tensor)) for name, tensor in tensors.items()) if count]
    if bad:
        raise CheckpointError(
            f'{len(bad)} of {len(tensors)} tensors hold NaN or infinite values: '
            f'{shortened([f"{name} ({count} of {tensors[name].numel()})" for name, count in bad])}.'
            ' The training had diverged before the checkpoint was saved: use an earlier one')


def _unusable_kind(name: str, tensor: Tensor) -> str | None:
    if tensor.is_meta:
        return 'without values (meta tensors)'
    if tensor.is_nested or tensor.layout is not torch.strided:
        return 'nested' if tensor.is_nested else 'sparse'
    if tensor.is_quantized:
        return 'quantized'
    if tensor.is_complex():
        return 'complex'
    if not tensor.is_floating_point() and name.rpartition('.')[2] in _NUMBERS:
        return str(tensor.dtype).replace('torch.', '') + ', not floating-point'
    return None


def _refuse_expanded(tensors: Mapping[str, Tensor]) -> None:
    def bytes_of(tensor: Tensor) -> int:
        return tensor.numel() * tensor.element_size()

    def stored(tensor: Tensor) -> int:
        # torch 1.13 has no untyped_storage
        return int(getattr(tensor, 'untyped_storage', tensor.storage)().nbytes())

    excess = {name: bytes_of(tensor) - stored(tensor) for name, tensor in tensors.items()}
    if sum(beyond for beyond in excess.values() if beyond > 0) > _MOST_EXPANDED:
        name = max(excess, key=lambda name: excess[name])
        tensor = tensors[name]
        raise CheckpointError(f'{name} of shape {tuple(tensor.shape)} would take '
                              f'{bytes_of(tensor):,} bytes, and {stored(tensor):,}'
                              ' are stored: the file is damaged or hostile')


def _not_numbers(name: str, tensor: Tensor) -> int:
    """How many values of ``tensor`` a network can't compute with."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return 0
    # One pass without a copy for nearly all tensors; NaN and infinities show in the extremes.
    tensor = tensor.detach()
    values = tensor if tensor.element_size() > 2 else tensor.float()  # not all torches know fp16
    low, high = values.aminmax()
    if torch.isfinite(low) and torch.isfinite(high):
        return 0
    bad = ~torch.isfinite(values) if name.rpartition('.')[2] in _NUMBERS else values.isnan()
    return int(bad.sum())
