"""Effective receptive fields: how much each pixel contributes to a unit, and measures of that map.

After Luo et al. (arXiv 1701.04128), measured as RepLKNet does (Ding et al., arXiv 2203.06717, and its
``erf/`` scripts). Maps are NumPy arrays ``(H, W)``, not negative; no measure depends on their scale. A
map's centre is the pixel ``(H // 2, W // 2)``.
"""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SHARES = (0.2, 0.3, 0.5, 0.99)
"""RepLKNet's thresholds ``t``."""


def unit_gradient(feature: Tensor, image: Tensor, unit: tuple[int, int]) -> np.ndarray:
    """Contribution of each pixel to one unit of a feature map.

    The gradient of the sum over channels of ``relu(feature)`` at the unit to the (normalised) image,
    clamped at zero and summed over colours. What comes through a global path (the predictor of a
    dynamic mask, squeeze-excitation) is part of it.

    Args:
        feature: ``(1, C, h, w)``, computed from ``image``; its graph is kept for further units.
        image: ``(1, 3, H, W)`` that requires a gradient.
        unit: ``(row, column)`` in the map.

    Returns:
        ``(H, W)`` fp64.
    """
    score = feature[0, :, unit[0], unit[1]].relu().sum()
    gradient, = torch.autograd.grad(score, image, retain_graph=True)
    return gradient[0].relu().sum(0).double().cpu().numpy()


def check_map(erf_map: np.ndarray) -> np.ndarray:
    """The map as fp64.

    Raises:
        ValueError: it isn't two-dimensional, not finite, negative somewhere or zero everywhere.
    """
    erf_map = np.asarray(erf_map, np.float64)
    if erf_map.ndim != 2:
        raise ValueError(f'an effective receptive field is (H, W); got shape {erf_map.shape}')
    if not np.isfinite(erf_map).all() or (erf_map < 0).any() or not erf_map.any():
        raise ValueError('an effective receptive field is finite, nowhere negative and not all '
                         f'zero; got values from {erf_map.min()} to {erf_map.max()}')
    return erf_map


def _distances(shape: tuple[int, int],
               centre: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances from ``centre`` along y, ``(H, 1)``, and x, ``(1, W)``, in pixels."""
    row, column = centre or (shape[0] // 2, shape[1] // 2)
    return np.arange(shape[0])[:, None] - row, np.arange(shape[1])[None] - column


def area_ratio(erf_map: np.ndarray, t: float) -> tuple[float, int]:
    """RepLKNet's ``r(t)``: how much of the area the core of the field takes.

    The core is the smallest odd square around the centre, from 3x3 on, that holds more than ``t`` of
    the mass. Unlike in RepLKNet's code a square may grow beyond the map, of which its part inside
    the map counts: so every map has an answer.

    Args:
        erf_map: ``(H, W)``.
        t: a fraction, ``0 < t < 1``.

    Returns:
        the square's share of the map's area, and its side in pixels.

    Raises:
        ValueError: for another ``t``, or a map that :func:`check_map` refuses.
    """
    if not 0 < t < 1:
        raise ValueError(f't is a fraction between 0 and 1 (20 % is 0.2); got {t!r}')
    erf_map = check_map(erf_map)
    y, x = _distances(erf_map.shape)
    ring = np.maximum(abs(y), abs(x))  # half of the side of the square on whose border a pixel lies
    mass = np.bincount(ring.ravel(), erf_map.ravel(), minlength=2).cumsum()
    area = np.bincount(ring.ravel(), minlength=2).cumsum()
    half = 1 + int(np.argmax(mass[1:] > t * mass[-1]))
    return float(area[half] / area[-1]), 2 * half + 1


def log_scaled(erf_map: np.ndarray) -> np.ndarray:
    """The map as it is drawn: ``log10(1 + g)``, divided by its maximum.

    RepLKNet takes this logarithm of the gradient as it comes, whose scale means nothing; here ``g``
    is in units of the map's mean.
    """
    erf_map = check_map(erf_map)
    scaled = np.log10(1 + erf_map / erf_map.mean())
    return scaled / scaled.max()


def axis_variance(erf_map: np.ndarray,
                  centre: tuple[int, int] | None = None) -> tuple[float, float]:
    """Second moments along y and x, in squared pixels, about ``centre`` (row, column), by default
    the map's."""
    erf_map = check_map(erf_map)
    y, x = _distances(erf_map.shape, centre)
    total = erf_map.sum()
    return float((erf_map * y**2).sum() / total), float((erf_map * x**2).sum() / total)


def second_moment_radius(erf_map: np.ndarray, centre: tuple[int, int] | None = None) -> float:
    """Root of the mean squared distance from ``centre``, weighted by the map, in pixels."""
    return sum(axis_variance(erf_map, centre))**0.5


def mass_inside(erf_map: np.ndarray, box: tuple[float, float, float, float]) -> float:
    """Share of the mass in a box ``(x1, y1, x2, y2)`` in pixels; pixel ``i`` covers ``i`` to ``i + 1``
    and counts where its centre is inside."""
    erf_map = check_map(erf_map)
    x1, y1, x2, y2 = (max(0, int(np.ceil(edge - 0.5))) for edge in box)
    return float(erf_map[y1:y2, x1:x2].sum() / erf_map.sum())


def crop_around(erf_map: np.ndarray, centre: tuple[int, int], side: int) -> np.ndarray:
    """``(side, side)`` pixels around ``centre`` (row, column), zero outside; ``side`` odd."""
    half = side // 2
    padded = np.pad(erf_map, half)
    row, column = centre
    return padded[row:row + side, column:column + side]
