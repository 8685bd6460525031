"""Peak memory of one call."""
from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn as nn
from torch import Tensor


def held_bytes(module: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> int:
    """Bytes that a network and its optimizer hold between steps: parameters, buffers, the
    optimizer's state. Gradients, which ``zero_grad()`` drops, don't count."""
    state = [] if optimizer is None else [
        value for values in optimizer.state.values() for value in values.values()]
    return _bytes([*module.parameters(), *module.buffers(),
                   *(value for value in state if isinstance(value, Tensor))])


def _bytes(tensors: Iterable[Tensor]) -> int:
    storages = {(tensor.device, storage.data_ptr()): storage.nbytes()
                for tensor in tensors for storage in [_storage(tensor)]}
    return sum(storages.values())


def peak_bytes(call: Callable[[], object], device: torch.device | str = 'cpu') -> int:
    """The most bytes that tensors made by a call take at one moment.

    On a CPU: what torch's allocator gave out and took back, as its profiler notes each of them.
    What libraries take past it (oneDNN's scratch memory) isn't in it. On a CUDA device: the peak of
    torch's allocator, above what was taken before.
    """
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU],
                                profile_memory=True) as profile:
        call()
    changes = sorted((_started(event), event.nbytes())
                     for event in profile.profiler.kineto_results.events()
                     if event.name() == '[memory]')
    taken = peak = 0
    for _, change in changes:
        taken += change
        peak = max(peak, taken)
    return peak


def _started(event) -> int:
    """When an event began; torch before 2.3 counts microseconds."""
    return event.start_ns() if hasattr(event, 'start_ns') else event.start_us()


def _storage(tensor: Tensor):
    return getattr(tensor, 'untyped_storage', tensor.storage)()  # torch 1.13 has none
