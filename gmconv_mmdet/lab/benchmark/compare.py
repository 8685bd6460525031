"""Time several calls in turns, and the peak memory of one."""
from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

MIN_ROUNDS = 3


def compare(calls: Mapping[str, Callable[[], object]],
            rounds: int = 15,
            seconds: float = float('inf'),
            *,
            warmup: int = 1,
            device: torch.device | str = 'cpu') -> list[dict[str, Any]]:
    """Time calls in turns, each once a round, in an order drawn anew for each round: a machine that
    slows down for a while slows all calls of a round, and ratios are taken within rounds.

    Args:
        calls (Mapping[str, Callable]): by name. The first is what the others are compared with.
        rounds (int): at most.
        seconds (float): no round begins later than this, but for the first ``MIN_ROUNDS``.
        warmup (int): untimed rounds before that.
        device (torch.device | str): a CUDA device is waited for before and after each call.

    Returns:
        list[dict]: one a call: ``name``, ``rounds``, ``seconds`` (median) and ``ratio`` (median of
        the ratios to the first call), both with quartiles ``*_low`` and ``*_high``.
    """
    if not calls or rounds < 1 or warmup < 0:
        raise ValueError('compare needs a call, a round or more and no negative warm-up, got '
                         f'{list(calls)}, {rounds} rounds, warm-up {warmup}')

    def now() -> float:
        if torch.device(device).type == 'cuda':
            torch.cuda.synchronize(device)
        return time.perf_counter()

    times: dict[str, list[float]] = {name: [] for name in calls}
    order = random.Random(0)
    for round_ in range(-warmup, rounds):
        if round_ <= 0:
            end = now() + seconds
        if round_ >= MIN_ROUNDS and now() > end:
            break
        for name in order.sample(list(calls), len(calls)):
            begun = now()
            calls[name]()
            times[name].append(now() - begun)
    table = np.array(list(times.values()))[:, warmup:]
    rows = []
    for name, own, ratios in zip(calls, table, table / table[0]):
        row: dict[str, Any] = dict(name=name, rounds=len(own))
        for key, values in ('seconds', own), ('ratio', ratios):
            low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
            row.update({key: median, f'{key}_low': low, f'{key}_high': high})
        rows.append(row)
    return rows


def peak_bytes(call: Callable[[], object], device: torch.device | str = 'cpu') -> int:
    """The most bytes that tensors made by a call take at one moment.

    On a CPU: what torch's allocator gave out and took back, as its profiler notes it, without the
    scratch memory of libraries (oneDNN). On a CUDA device: the peak of torch's allocator.
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
    events = [event for event in profile.profiler.kineto_results.events()
              if event.name() == '[memory]']
    started = 'start_ns' if events and hasattr(events[0], 'start_ns') else 'start_us'  # torch 2.3
    events.sort(key=lambda event: getattr(event, started)())
    return int(np.cumsum([0, *(event.nbytes() for event in events)]).max())
