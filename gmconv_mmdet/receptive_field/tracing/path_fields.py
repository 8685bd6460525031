"""What the paths from the image to a feature map see along one axis, joined."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Sequence

from .axis_field import PIXELS, AxisField, Gather, read, union, union_at


@dataclass(frozen=True)
class PathFields:
    """The finite paths' extremes, and whether some path sees the whole axis.

    Attributes:
        least: the finite path with the smallest receptive field, None if every path is global.
        hull: the union of all finite paths: exactly the input that a gradient can reach.
        shrink: input pixels by which masks make ``hull`` smaller, see ``effective_kernel``.
        is_global: a path (global pooling, attention, normalisation over the image) sees everything.
        exact: False where an irregular resize was replaced by the nearest regular one.
    """
    least: Optional[AxisField]
    hull: Optional[AxisField]
    shrink: float = 0.0
    is_global: bool = False
    exact: bool = True

    @property
    def is_finite(self) -> bool:
        return self.hull is not None

    def through(self, gather: Gather, masked_extent: Optional[float] = None,
                exact: bool = True) -> PathFields:
        """The fields behind an operator that reads ``gather``.

        Args:
            masked_extent: extent of the kernel in source positions once its mask is applied;
                the full extent if None.
        """
        if not self.is_finite:
            return self
        lost = 0.0
        if masked_extent is not None:
            lost = (gather.extent - masked_extent) * float(self.hull.jump)
        return replace(self, least=read(self.least, gather), hull=read(self.hull, gather),
                       shrink=self.shrink + lost, exact=self.exact and exact)


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
        if other.hull.jump == hull.jump:
            hull = union(hull, other.hull)
        else:
            hull, exact = union_at(hull, other.hull, positions // 2), False
    least = min((p.least for p in finite), key=lambda field: field.size)
    effective = max(p.hull.size - p.shrink for p in finite)
    return PathFields(least, hull, hull.size - effective, is_global, exact)
