"""Statistics of paired comparisons: mean and spread, differences with intervals, seeds needed.

Pure functions of numbers; Student's t is scipy's, which mmdet brings.
"""
from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from scipy.stats import t as student

CONFIDENCE = 0.95
POWER = 0.8


class Summary(NamedTuple):
    """Mean of some runs."""
    mean: float
    spread: Optional[float]  # sample standard deviation (n - 1); None for a single run
    seeds: int

    def text(self, sign: str = '') -> str:
        spread = '' if self.spread is None else f' ± {self.spread:.1f} ({self.seeds})'
        return f'{self.mean:{sign}.1f}{spread}'


class Difference(NamedTuple):
    """Mean of paired differences and its confidence interval."""
    mean: float
    spread: Optional[float]  # sample standard deviation of the differences; None for one pair
    pairs: int
    low: Optional[float]  # ends of the interval; None for one pair
    high: Optional[float]

    def text(self, digits: int = 2) -> str:
        if self.low is None:
            return f'{self.mean:+.{digits}f} (no interval)'
        return f'{self.mean:+.{digits}f} [{self.low:+.{digits}f}, {self.high:+.{digits}f}]'


def summarize(values: Sequence[float]) -> Summary | None:
    """Mean and sample standard deviation; None without values."""
    if not values:
        return None
    return Summary(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None,
                   len(values))


def paired_values(own: Mapping[int, float | None], base: Mapping[int, float | None]) -> list[float]:
    """``own - base`` for each seed that both have, in the seeds' order."""
    return [own[seed] - base[seed] for seed in sorted(own.keys() & base.keys())
            if own[seed] is not None and base[seed] is not None]


def paired_difference(differences: Sequence[float],
                      confidence: float = CONFIDENCE) -> Difference | None:
    """Mean difference with Student's interval: ``mean ± t sd / sqrt(n)``, n - 1 degrees of freedom.

    It takes the differences to be independent and normal. None without differences; without an
    interval for a single one, which says nothing of the spread.
    """
    summary = summarize(differences)
    if summary is None:
        return None
    mean, spread, pairs = summary
    if spread is None:
        return Difference(mean, None, pairs, None, None)
    half = float(student.ppf((1 + confidence) / 2, pairs - 1)) * spread / math.sqrt(pairs)
    return Difference(mean, spread, pairs, mean - half, mean + half)


def seeds_needed(spread: float, difference: float = 0.5, power: float = POWER,
                 confidence: float = CONFIDENCE, most: int = 10_000) -> int | None:
    """Pairs with which a two-sided paired t-test sees a true ``difference`` with this ``power``.

    The smallest n >= 2 with ``n >= ((t_a + t_b) spread / difference)^2``, where ``t_a`` and ``t_b``
    are the quantiles of Student's t with n - 1 degrees of freedom at ``(1 + confidence) / 2`` and
    at ``power``. n is counted up, since both quantiles depend on it. This is the usual
    approximation of the noncentral t distribution by a shifted central one.

    Args:
        spread (float): standard deviation of the paired differences, in the unit of ``difference``.
            An estimate from few pairs is rough, and so is the answer.
        difference (float): to be seen.
        power (float): probability of seeing it.
        confidence (float): 1 - the level of the test.
        most (int): pairs to count up to.

    Returns:
        int | None: None where more than ``most`` would be needed.
    """
    levels = (1 + confidence) / 2, power
    # Student's quantiles are larger than the normal distribution's: it takes no fewer than these.
    normal = sum(map(statistics.NormalDist().inv_cdf, levels))
    pairs = max(2, math.floor(min((normal * spread / difference) ** 2, most + 1)))
    while pairs <= most:
        if pairs >= (sum(student.ppf(levels, pairs - 1)) * spread / difference) ** 2:
            return pairs
        pairs += 1
    return None
