"""Advice for any network that takes one image tensor."""
from __future__ import annotations

from math import inf
from typing import Any

import torch.nn as nn

from ...conversion.edit_layers import edit_layers
from ..analyze import ReceptiveFieldError, Report, analyze
from .changes import AS_IS, Change, propose
from .ranking import Advice, ranked, recommended, scores

__all__ = ['Advice', 'Change', 'advise', 'recommended']


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
        the network as it is, then its changes in the order of :mod:`.ranking`'s score.

    Raises:
        ValueError: as of :func:`~gmconv_mmdet.analyze_receptive_field`.
        ReceptiveFieldError: the network as it is can't be analysed.
    """
    original = analyze(module, input_size, channels)
    found = [_scored(AS_IS, original, original, boxes)]
    for change in propose(original):
        try:
            report = analyze(edit_layers(module, change.edits), input_size, channels)
            found.append(_scored(change, report, original, boxes))
        except (ReceptiveFieldError, ValueError) as error:
            found.append(Advice(change, None, error=str(error)))
    return ranked(found)


def _scored(change: Change, report: Report, original: Report, boxes: Any) -> Advice:
    levels, before = (sorted((o for o in r.outputs if o.jump != (inf, inf)), key=lambda o: o.jump)
                      for r in (report, original))
    finer = levels[0].jump[0] / before[0].jump[0] if levels and before else 1
    return Advice(change, report, levels, scores(report, levels, original, boxes, 56 * finer))
