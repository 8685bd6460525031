"""Receptive field of a feature map along one image axis, exactly.

Position ``i`` of a map sees the input positions ``lo .. hi``. Through convolutions and pooling this
interval moves by a constant step, the jump, from one position to the next. Through upsampling and
attention in windows it doesn't: two neighbours may share their source. The interval then repeats
with a period, and one period of intervals describes the whole map. Nothing is clipped at the
image's
border: padding counts as input that continues beyond it, as in every published receptive field.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import gcd
from typing import Iterator, List, Optional, Sequence, Tuple

# Beyond this many different intervals a map has no regular structure worth following.
MAX_PERIOD = 4096


class IrregularFieldError(ValueError):
    """The intervals of a map don't repeat within ``MAX_PERIOD`` positions."""


@dataclass(frozen=True)
class Gather:
    """Which source positions an operator reads along one axis.

    Output position ``len(taps) * a + u`` reads the source positions ``stride * a + t`` for every
    ``t`` in ``taps[u]``; an empty ``taps[u]`` reads none (a transposed convolution's holes).
    """
    stride: int
    taps: Tuple[Tuple[int, ...], ...]

    @property
    def extent(self) -> int:
        """Source positions from the first to the last tap."""
        return max((max(taps) - min(taps) + 1 for taps in self.taps if taps), default=0)


@dataclass(frozen=True)
class AxisField:
    """Intervals of one period of positions: ``period * m + p`` sees ``lo[p] + shift * m`` to
    ``hi[p] + shift * m``, both inclusive, in input pixels. ``None`` where a position sees
    nothing."""
    shift: int
    lo: Tuple[Optional[int], ...]
    hi: Tuple[Optional[int], ...]

    @property
    def period(self) -> int:
        return len(self.lo)

    @property
    def size(self) -> int:
        """Input pixels of the largest interval."""
        return max((h - l + 1 for l, h in zip(self.lo, self.hi) if l is not None), default=0)

    @property
    def jump(self) -> Fraction:
        """Input pixels between neighbouring positions, on average."""
        return Fraction(self.shift, self.period)

    def interval(self, position: int) -> Optional[Tuple[int, int]]:
        """The input pixels ``(lo, hi)`` that ``position`` sees, or None."""
        turn, phase = divmod(position, self.period)
        if self.lo[phase] is None:
            return None
        return self.lo[phase] + turn * self.shift, self.hi[phase] + turn * self.shift


PIXELS = AxisField(1, (0,), (0,))


def convolution(kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Gather:
    """Convolution and fixed pooling."""
    return Gather(stride, (tuple(dilation * t - padding for t in range(kernel)),))


def transposed_convolution(kernel: int, stride: int, padding: int, dilation: int = 1) -> Gather:
    """Output ``o`` reads source ``i`` where ``o = stride * i - padding + dilation * t``."""
    taps = []
    for phase in range(stride):
        reached = (phase + padding - dilation * t for t in range(kernel))
        taps.append(tuple(sorted(r // stride for r in reached if r % stride == 0)))
    return Gather(1, tuple(taps))


def strided(start: int, step: int = 1) -> Gather:
    """Slicing ``[start::step]``; padding by ``p`` is ``strided(-p)``."""
    return Gather(step, ((start,),))


def bins(source: int, target: int) -> Gather:
    """Adaptive pooling from ``source`` to ``target`` positions."""
    common = gcd(source, target)
    source, target = source // common, target // common
    return Gather(source, tuple(tuple(range(u * source // target, -(-(u + 1) * source // target)))
                                for u in range(target)))


def resize(ratio: Fraction, reach: Sequence[int]) -> Gather:
    """Interpolation to ``ratio`` times the positions.

    Args:
        ratio: target / source positions.
        reach: taps around ``floor`` of the source coordinate: ``(0,)`` nearest, ``(0, 1)`` linear,
            ``(-1, 0, 1, 2)`` cubic. Nearest samples at ``u / ratio``, the others at pixel centres,
            ``(u + 1/2) / ratio - 1/2`` (``align_corners=False``).
    """
    nearest = tuple(reach) == (0,)
    taps = []
    for u in range(ratio.numerator):
        at = Fraction(u) / ratio if nearest else (u + Fraction(1, 2)) / ratio - Fraction(1, 2)
        base = at.numerator // at.denominator
        # On a source position exactly, the linear weight of the next one is zero.
        linear_hit = tuple(reach) == (0, 1) and at == base
        taps.append((base,) if linear_hit else tuple(base + r for r in reach))
    return Gather(ratio.denominator, tuple(taps))


def window(size: int) -> Gather:
    """Every position of a window reads every other, as in windowed attention."""
    return Gather(size, (tuple(range(size)),) * size)


def read(field: AxisField, gather: Gather) -> AxisField:
    """The field of an operator's output from the field of its input."""
    repeats = field.period // gcd(field.period, gather.stride)
    period = repeats * len(gather.taps)
    if period > MAX_PERIOD:
        raise IrregularFieldError(
            f'the receptive field repeats only after {period} positions, more than {MAX_PERIOD}')
    lo, hi = [], []
    for turn in range(repeats):
        for taps in gather.taps:
            seen = [field.interval(gather.stride * turn + tap) for tap in taps]
            _append_hull(lo, hi, seen)
    # `repeats * gather.stride` source positions are whole periods of the source.
    shift = repeats * gather.stride // field.period * field.shift
    return _shortest(AxisField(shift, tuple(lo), tuple(hi)))


def union(a: AxisField, b: AxisField) -> AxisField:
    """Hull of two fields of the same map.

    Raises:
        ValueError: if their jumps differ; see :func:`union_at`.
    """
    if a.jump != b.jump:
        raise ValueError(f'fields of jump {a.jump} and {b.jump} drift apart')
    period = a.period * b.period // gcd(a.period, b.period)
    if period > MAX_PERIOD:
        raise IrregularFieldError(
            f'the receptive field repeats only after {period} positions, more than {MAX_PERIOD}')
    lo, hi = [], []
    for position in range(period):
        _append_hull(lo, hi, [a.interval(position), b.interval(position)])
    return _shortest(AxisField(period // a.period * a.shift, tuple(lo), tuple(hi)))


def union_at(a: AxisField, b: AxisField, position: int) -> AxisField:
    """Hull of two fields whose jumps differ, right at ``position`` and approximate elsewhere."""
    both = [seen for seen in (a.interval(position), b.interval(position)) if seen is not None]
    if not both:
        return a
    large = max((a, b), key=lambda field: field.size)
    shift = round(large.jump * position)
    lo = min(seen[0] for seen in both)
    hi = max(seen[1] for seen in both)
    period = large.period
    steps = [int(large.jump * p) for p in range(period)]
    origin = lo - shift, hi - shift
    return AxisField(large.shift, tuple(origin[0] + s for s in steps),
                     tuple(origin[1] + s for s in steps))


def _append_hull(lo: List[Optional[int]], hi: List[Optional[int]],
                 seen: Sequence[Optional[Tuple[int, int]]]) -> None:
    seen = [s for s in seen if s is not None]
    lo.append(min(s[0] for s in seen) if seen else None)
    hi.append(max(s[1] for s in seen) if seen else None)


def _divisors(n: int) -> Iterator[int]:
    return (d for d in range(1, n + 1) if n % d == 0)


def _shortest(field: AxisField) -> AxisField:
    """The same field with its shortest period, so that periods don't pile up along a network."""
    for period in _divisors(field.period):
        if field.shift * period % field.period:
            continue
        shift = field.shift * period // field.period
        short = AxisField(shift, field.lo[:period], field.hi[:period])
        if all(short.interval(p) == field.interval(p) for p in range(field.period)):
            return short
    return field
