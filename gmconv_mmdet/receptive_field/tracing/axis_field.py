"""Receptive field of a feature map along one image axis, exactly.

Position ``i`` of a map sees an interval of input positions. Through convolutions and pooling it moves
by a constant step, the jump, from one position to the next. Through upsampling and attention in
windows two neighbours may share their source; the intervals then repeat with a period, and one period
describes the whole map. Nothing is clipped at the image's border: padding counts as input that
continues beyond it, as in every published receptive field.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd
from typing import Iterable, Optional, Sequence, Tuple

# Beyond this many different intervals a map has no regular structure worth following.
MAX_PERIOD = 4096
Span = Tuple[int, int]  # the first and the last input pixel that a position sees


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
    half = Fraction(0 if tuple(reach) == (0,) else 1, 2)
    taps = []
    for u in range(ratio.numerator):
        at = (u + half) / ratio - half
        base = at.numerator // at.denominator
        # On a source position exactly, the linear weight of the next one is zero.
        hit = tuple(reach) == (0, 1) and at == base
        taps.append((base,) if hit else tuple(base + r for r in reach))
    return Gather(ratio.denominator, tuple(taps))


def window(size: int) -> Gather:
    """Every position of a window reads every other, as in windowed attention."""
    return Gather(size, (tuple(range(size)),) * size)


@dataclass(frozen=True)
class AxisField:
    """The intervals of one period of positions, in input pixels: ``period * m + p`` sees ``spans[p]``
    moved by ``shift * m``. None where a position sees nothing."""
    shift: int
    spans: Tuple[Optional[Span], ...]

    @property
    def period(self) -> int:
        return len(self.spans)

    @property
    def size(self) -> int:
        """Input pixels of the largest interval."""
        return max((hi - lo + 1 for lo, hi in filter(None, self.spans)), default=0)

    @property
    def jump(self) -> Fraction:
        """Input pixels between neighbouring positions, on average."""
        return Fraction(self.shift, self.period)

    def interval(self, position: int) -> Span | None:
        """The input pixels that ``position`` sees, first and last."""
        turn, phase = divmod(position, self.period)
        span = self.spans[phase]
        return span and (span[0] + turn * self.shift, span[1] + turn * self.shift)


PIXELS = AxisField(1, ((0, 0),))


def read(field: AxisField, gather: Gather) -> AxisField:
    """The field of an operator's output from the field of its input."""
    repeats = field.period // gcd(field.period, gather.stride)
    _check_period(repeats * len(gather.taps))
    spans = [_hull(field.interval(gather.stride * turn + tap) for tap in taps)
             for turn in range(repeats) for taps in gather.taps]
    # `repeats * gather.stride` source positions are whole periods of the source.
    return _shortest(repeats * gather.stride // field.period * field.shift, spans)


def union(a: AxisField, b: AxisField, position: int) -> AxisField:
    """Hull of two fields of the same map; if their jumps differ, right at ``position`` and
    approximate elsewhere."""
    if a.jump != b.jump:
        at = _hull((a.interval(position), b.interval(position)))
        large = max((a, b), key=lambda field: field.size)
        moves = [int(large.jump * p) - round(large.jump * position) for p in range(large.period)]
        return a if at is None else AxisField(
            large.shift, tuple((at[0] + move, at[1] + move) for move in moves))
    period = a.period * b.period // gcd(a.period, b.period)
    _check_period(period)
    return _shortest(period // a.period * a.shift,
                     [_hull((a.interval(p), b.interval(p))) for p in range(period)])


def _check_period(period: int) -> None:
    if period > MAX_PERIOD:
        raise IrregularFieldError(
            f'the receptive field repeats only after {period} positions, more than {MAX_PERIOD}')


def _hull(spans: Iterable[Span | None]) -> Span | None:
    seen = [span for span in spans if span is not None]
    return (min(lo for lo, _ in seen), max(hi for _, hi in seen)) if seen else None


def _shortest(shift: int, spans: Sequence[Span | None]) -> AxisField:
    """The field with its shortest period, so that periods don't pile up along a network."""
    field = AxisField(shift, tuple(spans))
    for period in range(1, field.period):
        if field.period % period or shift * period % field.period:
            continue
        short = AxisField(shift * period // field.period, field.spans[:period])
        if all(short.interval(p) == field.interval(p) for p in range(field.period)):
            return short
    return field


@dataclass(frozen=True)
class PathFields:
    """What all paths from the image to a map see along one axis.

    Attributes:
        least: the finite path with the smallest receptive field, None if every path is global.
        hull: the union of all finite paths: exactly the input that a gradient can reach.
        shrink: input pixels by which masks make ``hull`` smaller, see :mod:`.masked_kernel`.
        is_global: a path (global pooling, attention, normalisation over the image) sees everything.
        exact: False where an irregular resize was replaced by the nearest regular one.
    """
    least: AxisField | None
    hull: AxisField | None
    shrink: float = 0.0
    is_global: bool = False
    exact: bool = True

    @property
    def is_finite(self) -> bool:
        return self.hull is not None

    def through(self, gather: Gather, masked_extent: float | None = None,
                exact: bool = True) -> PathFields:
        """The fields behind an operator that reads ``gather``; ``masked_extent`` is the kernel's
        extent in source positions once its mask is applied."""
        if not self.is_finite:
            return self
        lost = 0 if masked_extent is None else gather.extent - masked_extent
        return replace(self, least=read(self.least, gather), hull=read(self.hull, gather),
                       shrink=self.shrink + lost * float(self.hull.jump), exact=self.exact and exact)


IMAGE = PathFields(PIXELS, PIXELS)
GLOBAL = PathFields(None, None, is_global=True)


def join(paths: Sequence[PathFields], positions: int) -> PathFields:
    """Union over the paths into one map of ``positions`` positions (addition, concatenation ...).

    A global path isn't counted where a finite one exists; it is only noted. Paths of different
    jumps (possible only behind an irregular resize) are joined at the map's centre, marked inexact.
    """
    is_global = any(p.is_global for p in paths)
    finite = [p for p in paths if p.is_finite]
    if not finite:
        return replace(GLOBAL, is_global=is_global)
    hull, exact = finite[0].hull, all(p.exact for p in finite)
    for other in finite[1:]:
        exact = exact and other.hull.jump == hull.jump
        hull = union(hull, other.hull, positions // 2)
    least = min((p.least for p in finite), key=lambda field: field.size)
    effective = max(p.hull.size - p.shrink for p in finite)
    return PathFields(least, hull, hull.size - effective, is_global, exact)
