import math

import pytest

from gmconv_mmdet.lab.reproduce.paired_stats import (
    Difference,
    incomplete_beta,
    paired_difference,
    paired_values,
    seeds_needed,
    summarize,
    t_cdf,
    t_quantile,
)


def test_quantiles_are_those_of_printed_tables():
    for df, quantile in ((1, 12.7062), (2, 4.3027), (4, 2.7764), (7, 2.3646), (30, 2.0423)):
        assert t_quantile(0.975, df) == pytest.approx(quantile, abs=5e-5)
    assert t_quantile(0.025, 4) == -t_quantile(0.975, 4)
    assert t_quantile(0.5, 3) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match='got p=1, df=3'):
        t_quantile(1, 3)


def test_agrees_with_scipy():
    special = pytest.importorskip('scipy.special')
    stats = pytest.importorskip('scipy.stats')
    for a, b, x in ((0.5, 0.5, 0.3), (2, 0.5, 0.9), (50, 0.5, 0.99), (7, 3, 0.01),
                    (1e3, 0.5, 0.999)):
        assert incomplete_beta(a, b, x) == pytest.approx(special.betainc(a, b, x), rel=1e-9)
    for df in (1, 2, 3, 7, 49, 1000):
        for p in (0.0001, 0.2, 0.8, 0.975, 0.999):
            assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-8)
        assert t_cdf(-1.3, df) == pytest.approx(stats.t.cdf(-1.3, df), rel=1e-9)


def test_mean_and_spread_by_hand():
    assert summarize([]) is None and summarize([3.0]) == (3.0, None, 1)
    assert summarize([1.0, 2.0, 3.0]) == (2.0, 1.0, 3)
    assert summarize([30.0, 31.0]).text() == '30.5 ± 0.7 (2)'


def test_only_common_seeds_make_pairs():
    assert paired_values({0: 2.0, 1: 5.0, 9: None, 4: 1.0}, {9: 1.0, 1: 3.0, 0: 1.5}) == [0.5, 2.0]


def test_interval_of_paired_differences_by_hand():
    """Differences 1, 2, 3: mean 2, sd 1, t(0.975, 2) = 4.3027, so 2 ± 4.3027 / sqrt(3)."""
    difference = paired_difference([1.0, 2.0, 3.0])
    assert difference.mean == 2 and difference.pairs == 3
    assert difference.high - 2 == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)
    assert difference.low == pytest.approx(4 - difference.high)
    assert difference.text() == '+2.00 [-0.48, +4.48] (3)'


def test_one_pair_has_no_interval():
    assert paired_difference([0.4]) == Difference(0.4, None, 1, None, None)
    assert paired_difference([0.4]).text() == '+0.40 (1 pair: no interval)'
    assert paired_difference([]) is None


def test_seeds_needed_is_the_smallest_number_that_fulfils_the_formula():
    # sd as large as the difference: 10 pairs, 9 degrees of freedom: (2.2622 + 0.8834)^2 = 9.9.
    assert seeds_needed(0.5, 0.5) == 10
    assert seeds_needed(0.0, 0.5) == 2
    assert seeds_needed(0.1, 0.5) == 3  # 3 > (4.3027 + 1.0607)^2 / 25 = 1.2; 2: (12.7 + 1.4)^2 / 25
    assert seeds_needed(1000.0, 0.5) is None


def test_seeds_needed_meets_the_power_of_the_noncentral_distribution():
    stats = pytest.importorskip('scipy.stats')
    for spread in (0.3, 0.5, 0.9, 1.7):
        pairs = seeds_needed(spread)
        shift = 0.5 / spread * math.sqrt(pairs)
        bound = stats.t.ppf(0.975, pairs - 1)
        power = stats.nct.sf(bound, pairs - 1, shift) + stats.nct.cdf(-bound, pairs - 1, shift)
        assert 0.78 < power < 0.95
