"""Which change of a network's single layers serves the images and their objects best, or none.

The score of a network is the sum of the share of its layers with weights that are unproductive (arXiv
2211.14487), of the boxes larger than the receptive field of their map, of the boxes with a side below
two positions of it, and 0.05 for every doubling of the multiply-adds. All but the first is this
project's choice.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf, log2
from typing import Any

import torch.nn as nn

from ...conversion.edit_layers import edit_layers
from ..analyze import WEIGHTED, FieldSize, ReceptiveFieldError, Report, analyze
from .changes import AS_IS, Change, propose

__all__ = ['Advice', 'Change', 'advise', 'recommended']

DOUBLING = 0.05
LEAST_GAIN = 0.01


@dataclass(frozen=True)
class Scores:
    """Shares from 0 to 1, those of boxes None where there are none; the cost is in units of the
    network as it is."""
    unproductive: float
    too_large: float | None
    too_small: float | None
    cost: float

    @property
    def total(self) -> float:
        """Smaller is better."""
        return (self.unproductive + (self.too_large or 0) + (self.too_small or 0)
                + DOUBLING * max(0.0, log2(self.cost)))


@dataclass(frozen=True)
class Advice:
    """A change and what the analysis says of it.

    Attributes:
        change: of the network; the first of a list is the network as it is.
        report: None where the changed network can't run or be analysed.
        levels: the maps that boxes are assigned to, finest first.
        scores: None where there is no report.
        error: why there is no report.
    """
    change: Change
    report: Report | None
    levels: Sequence[FieldSize] = ()
    scores: Scores | None = None
    error: str = ''


def advise(module: nn.Module, input_size: tuple[int, int], boxes: Any = None,
           channels: int = 3) -> list[Advice]:
    """Analyse a network and changes of its single layers at one input size, best change first.

    ::

        advice = gmconv_mmdet.advise_receptive_field(model, (64, 64))
        best = recommended(advice)                      # None: leave the network as it is
        model = gmconv_mmdet.edit_layers(model, best.change.edits)

    Args:
        module: any network that takes one image tensor ``(1, channels, H, W)``; it isn't changed.
        input_size: ``(H, W)`` in pixels.
        boxes: numpy array ``(n, 2)``, widths and heights of objects in input pixels, assigned to the
            network's output maps as a pyramid's boxes are; None leaves them out of the ranking.
        channels: of the image.

    Returns:
        the network as it is, then its changes in the order of their scores.

    Raises:
        ValueError: as of :func:`~gmconv_mmdet.analyze_receptive_field`.
        ReceptiveFieldError: the network as it is can't be analysed.
    """
    def analyzed(change: Change) -> tuple[Report, list[FieldSize]]:
        report = analyze(edit_layers(module, change.edits), input_size, channels)
        return report, sorted((o for o in report.outputs if o.jump != (inf, inf)),
                              key=lambda o: o.jump)

    return compare(analyzed, propose, boxes)


def compare(analyzed: Callable[[Change], tuple[Report, Sequence[FieldSize]]],
            propose: Callable[[Report], Iterable[Change]], boxes: Any, count: int | None = None,
            finest_scale: float = 56) -> list[Advice]:
    """The network as it is, then its changes, the best first; those that can't run are last.

    Args:
        analyzed: a changed network's report and the maps of its pyramid, finest first.
        propose: the changes of an analysed network.
        boxes: ``(n, 2)`` widths and heights in input pixels, or None.
        count: so many of the maps have boxes assigned to them, None for all.
        finest_scale: by which boxes are assigned to the maps as they are.
    """
    original, before = analyzed(AS_IS)

    def judged(change: Change, report: Report, levels: Sequence[FieldSize]) -> Advice:
        finer = levels[0].jump[0] / before[0].jump[0] if len(levels) == len(before) > 0 else 1
        return Advice(change, report, levels, scores(
            report, levels[:count], original, boxes, finest_scale * finer))

    found = []
    for change in propose(original):
        try:
            found.append(judged(change, *analyzed(change)))
        except (ReceptiveFieldError, ValueError) as error:
            found.append(Advice(change, None, error=str(error)))
    found.sort(key=lambda advice: advice.scores.total if advice.scores else inf)
    return [judged(AS_IS, original, before), *found]


def scores(report: Report, levels: Sequence[FieldSize], original: Report, boxes: Any = None,
           finest_scale: float = 56) -> Scores:
    """Score an analysed network; ``levels`` are the maps that boxes are assigned to, finest first, by
    ``finest_scale``, ``original`` is the analysis of the network as it is."""
    # of the original's number: a change must not win by adding layers
    layers = sum(layer.kind in WEIGHTED for layer in original.layers.values())
    wasted = len(report.unproductive) / max(1, layers)
    cost = report.macs / original.macs if original.macs else 1.0
    if boxes is None or len(boxes) == 0 or not levels:
        return Scores(wasted, None, None, cost)
    from ..fpn_assignment import assign_levels, beyond  # numpy, which the rest does without
    level_of = assign_levels(boxes, len(levels), finest_scale)
    large = small = 0
    for i, level in enumerate(levels):
        mine = boxes[level_of == i]
        large += beyond(mine, level.r_max)
        if level.jump != (inf, inf):
            small += int(((mine[:, 0] < 2 * level.jump[1]) | (mine[:, 1] < 2 * level.jump[0])).sum())
    return Scores(wasted, large / len(boxes), small / len(boxes), cost)


def recommended(advice: Sequence[Advice]) -> Advice | None:
    """The best change if its score is at least 0.01 below that of the network as it is, else None."""
    if len(advice) < 2 or advice[0].scores is None or advice[1].scores is None:
        return None
    return advice[1] if advice[0].scores.total - advice[1].scores.total >= LEAST_GAIN else None
