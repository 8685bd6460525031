"""Image scale, anchors and length of training, advised from the boxes of a data set.

Rules of thumb, each with its reason; what helps on one data set is for a comparison to find out.
"""
from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Sequence

import numpy as np

SMALL = 32
"""Side in pixels of COCO's small objects, and of the smallest anchor of mmdet's Faster R-CNN."""
FACTORS = (0.25, 0.5, 1, 2)
"""What anchors may be multiplied by; a power of 2 is one pyramid level."""
WORTHWHILE = 0.02
"""Share of boxes that other anchors have to reach in addition."""
ELONGATED = 4.5
"""Long by short side up to which anchors of 1:2, 1:1 and 2:1 overlap a box of their area by half:
``IoU = t / (2 - t)`` with ``t = sqrt(2 / ratio)`` is 0.5 at 2 * 2.25."""


@dataclass(frozen=True)
class Scale:
    """The scale to which images are resized ``(W, H)``, and why."""
    size: tuple[int, int]
    reason: str


@dataclass(frozen=True)
class Anchors:
    """What the sizes of anchors are multiplied by, whether 1:4 and 4:1 are added, and why."""
    factor: float
    elongated: bool
    reason: str


def advise_scale(sides: np.ndarray, base: tuple[int, int]) -> Scale:
    """The smallest scale that leaves nine boxes in ten at COCO's "small" size or above.

    Never above the base's scale, which is what the schedule and the memory are made for, and not
    below half of it, since pretrained features know objects in about that resolution.

    Args:
        sides: ``(n,)``, root of the area of each box in pixels at the base's scale.
        base: the base's scale ``(W, H)``.
    """
    smallest = float(np.percentile(sides, 10))
    factor = min(1, max(SMALL / smallest, 0.5))
    told = f'At the base\'s scale of {base[0]} x {base[1]} nine boxes in ten are {smallest:.0f} px '
    if factor > 0.9:
        lost = float((sides < SMALL / 2).mean())
        reason = told + 'or more (root of the area): smaller images would lose small objects.'
        if lost > 0.25:
            reason += (f' {lost:.0%} are below 16 px even so: cut the images into tiles, or give a '
                       'larger scale (--scale W H) if the memory allows.')
        return Scale(base, reason)
    size = tuple(ceil(side * factor / 32) * 32 for side in base)
    return Scale((size[0], size[1]), told + f'or more (root of the area). At {size[0]} x {size[1]} '
                 f'they still have about {smallest * factor:.0f} px, and an image has '
                 f'{(size[0] * size[1]) / (base[0] * base[1]):.0%} of the pixels to compute.')


def reached(sides: np.ndarray, smallest: float, largest: float) -> float:
    """Share of boxes that some anchor of their shape overlaps by half: the side of a box differs
    from that of the anchor by no more than sqrt(2). Anchors lie a factor of 2 apart at most."""
    return float(((sides >= smallest / sqrt(2)) & (sides <= largest * sqrt(2))).mean())


def advise_anchors(sizes: np.ndarray, smallest: float, largest: float,
                   ratios: Sequence[float] = (0.5, 1, 2)) -> Anchors:
    """Anchors that reach most boxes; those of the base unless others reach 2 % more.

    Args:
        sizes: ``(n, 2)``, widths and heights in pixels of the network's input.
        smallest: side of the base's smallest anchor in pixels.
        largest: of its largest.
        ratios: height by width of the base's anchors.
    """
    sides = np.sqrt(sizes.prod(1))
    shares = {factor: reached(sides, smallest * factor, largest * factor) for factor in FACTORS}
    best = max(shares, key=lambda factor: (shares[factor], -abs(np.log(factor))))
    if shares[best] < shares[1] + WORTHWHILE:
        best = 1
    reason = (f'Anchors of {smallest * best:g} to {largest * best:g} px overlap {shares[best]:.0%} '
              'of the training boxes by half, if those have the anchor\'s shape')
    reason += '.' if best == 1 else (f'; the base\'s {smallest:g} to {largest:g} px reach '
                                     f'{shares[1]:.0%}.')
    long = float((sizes.max(1) / sizes.min(1) > ELONGATED).mean())
    elongated = long > 0.1 and sorted(ratios) == [0.5, 1, 2]
    if elongated:
        reason += (f' {long:.0%} of the boxes are longer than {ELONGATED:g} times their width: '
                   'anchors of 1:4 and 4:1 are added.')
    return Anchors(best, elongated, reason)


def advise_epochs(images: int, from_scratch: bool) -> tuple[int, str]:
    """Epochs for a number of training images, and why: 12 from 10,000 images on, as for COCO, and
    growing by the square root towards smaller sets; three times as many from scratch."""
    epochs = int(min(100, max(12, round(12 * sqrt(10_000 / images)))))
    reason = (f'{images} images: a rule of thumb, 12 epochs from 10,000 images on, and more, by the '
              'square root, for fewer (at most 100).')
    if from_scratch:
        epochs *= 3
        reason += ' From scratch three times as many.'
    return epochs, reason
