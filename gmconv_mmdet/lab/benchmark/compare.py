"""Times several pieces of work against the first of them."""
from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

MIN_ROUNDS = 3


class Timing(NamedTuple):
    """Times of one variant over all rounds. ``low`` and ``high`` are quartiles."""
    name: str
    rounds: int
    seconds: float  # median
    seconds_low: float
    seconds_high: float
    ratio: float  # median of the ratios to the first variant, each of two times of one round
    ratio_low: float
    ratio_high: float


def compare(variants: Mapping[str, Callable[[], object]],
            rounds: int = 10,
            *,
            warmup: int = 1,
            seconds: float | None = None,
            device: torch.device | str = 'cpu',
            on_round: Callable[[int], object] = lambda round_: None) -> list[Timing]:
    """Time variants in turns: A B C, B C A, ...

    A machine that slows down for a while slows all variants of a round, and the ratios are taken
    within rounds. The order within a round is drawn, so that no variant gains by its place.

    Args:
        variants (Mapping[str, Callable]): name -> a call that does the work once. The first is what
            the others are compared with.
        rounds (int): how many times each is timed, at most.
        warmup (int): untimed calls of each before that.
        seconds (float, optional): no round begins later than this after the first one began,
            but for the first ``MIN_ROUNDS``.
        device (torch.device | str): where the work runs. A CUDA device is waited for before and
            after each call.
        on_round (Callable[[int], object]): told the number of each round when it ends, from 1.

    Returns:
        list[Timing]: in the order of ``variants``; the first one's ratios are 1.

    Raises:
        ValueError: no variants, or fewer than one round.
    """
    if not variants or rounds < 1 or warmup < 0:
        raise ValueError('compare needs a variant, a round or more and no negative warm-up, got '
                         f'{list(variants)}, {rounds} rounds, warm-up {warmup}')
    on_cuda = torch.device(device).type == 'cuda'

    def timed(call: Callable[[], object]) -> float:
        if on_cuda:
            torch.cuda.synchronize(device)
        begun = time.perf_counter()
        call()
        if on_cuda:
            torch.cuda.synchronize(device)
        return time.perf_counter() - begun

    for call in variants.values():
        for _ in range(warmup):
            timed(call)
    times: dict[str, list[float]] = {name: [] for name in variants}
    order = random.Random(0)
    begun = time.perf_counter()
    for round_ in range(rounds):
        late = seconds is not None and time.perf_counter() - begun > seconds
        if late and round_ >= MIN_ROUNDS:
            break
        for name in order.sample(list(variants), len(variants)):
            times[name].append(timed(variants[name]))
        on_round(round_ + 1)
    reference = next(iter(times.values()))
    return [_row(name, own, reference) for name, own in times.items()]


def _row(name: str, own: Sequence[float], reference: Sequence[float]) -> Timing:
    low, median, high = _quartiles(own)
    ratio_low, ratio, ratio_high = _quartiles([a / b for a, b in zip(own, reference)])
    return Timing(name, len(own), median, low, high, ratio, ratio_low, ratio_high)


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method='inclusive')
    return low, median, high
