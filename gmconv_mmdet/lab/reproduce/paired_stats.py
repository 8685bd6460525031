"""Statistics of paired comparisons: mean and spread, differences with intervals, seeds needed.

Pure functions of numbers, without scipy: Student's t by the regularized incomplete beta function.
"""
from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

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

    def text(self) -> str:
        if self.low is None:
            return f'{self.mean:+.2f} (1 pair: no interval)'
        return f'{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}] ({self.pairs})'


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
    half = t_quantile((1 + confidence) / 2, pairs - 1) * spread / math.sqrt(pairs)
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

    Returns:
        int | None: None where more than ``most`` would be needed.
    """
    levels = (1 + confidence) / 2, power
    # Student's quantiles are larger than the normal distribution's: it takes no fewer than these.
    normal = sum(map(statistics.NormalDist().inv_cdf, levels))
    pairs = max(2, math.floor(min((normal * spread / difference) ** 2, most + 1)))
    while pairs <= most:
        if pairs >= (sum(t_quantile(p, pairs - 1) for p in levels) * spread / difference) ** 2:
            return pairs
        pairs += 1
    return None


def t_cdf(t: float, df: float) -> float:
    """Student's distribution function with ``df`` degrees of freedom."""
    tail = 0.5 * incomplete_beta(df / 2, 0.5, df / (df + t * t))
    return 1 - tail if t > 0 else tail


def t_quantile(p: float, df: float) -> float:
    """The ``t`` with ``t_cdf(t, df) == p``, by bisection; 0 < p < 1, df > 0.

    Raises:
        ValueError: outside of these.
    """
    if not 0 < p < 1 or df <= 0:
        raise ValueError(f'p must lie between 0 and 1 and df be above 0, got p={p}, df={df}')
    if p < 0.5:
        return -t_quantile(1 - p, df)
    low, high = 0.0, 1.0
    while t_cdf(high, df) < p:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function I_x(a, b), by its continued fraction (Numerical
    Recipes, section 6.4), evaluated by Lentz's method."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
                     + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or tiny)
    fraction = d
    for m in range(1, 1000):
        for term in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                     -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            d = 1 / (1 + term * d or tiny)
            c = 1 + term / c or tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * fraction
