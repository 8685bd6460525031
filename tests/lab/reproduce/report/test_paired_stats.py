import math

import pytest

from gmconv_mmdet.lab.reproduce.report.paired_stats import (
    Difference,
    paired_difference,
    paired_values,
    seeds_needed,
)


def test_only_common_seeds_make_pairs():
    assert paired_values({0: 2.0, 1: 5.0, 9: None, 4: 1.0}, {9: 1.0, 1: 3.0, 0: 1.5}) == [0.5, 2.0]


def test_interval_of_paired_differences_by_hand():
    """Differences 1, 2, 3: mean 2, sd 1, t(0.975, 2) = 4.3027, so 2 ± 4.3027 / sqrt(3)."""
    difference = paired_difference([1.0, 2.0, 3.0])
    assert difference.mean == 2 and difference.pairs == 3
    assert difference.high - 2 == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)
    assert difference.low == pytest.approx(4 - difference.high)


def test_one_pair_has_no_interval():
    assert paired_difference([0.4]) == Difference(0.4, None, 1, None, None)
    assert paired_difference([]) is None


def test_seeds_needed_is_the_smallest_number_that_fulfils_the_formula():
    # sd as large as the difference: 10 pairs, 9 degrees of freedom: (2.2622 + 0.8834)^2 = 9.9.
    assert seeds_needed(0.5, 0.5) == 10
    assert seeds_needed(0.0, 0.5) == 2
    assert seeds_needed(0.1, 0.5) == 3  # 3 > (4.3027 + 1.0607)^2 / 25 = 1.2; 2: (12.7 + 1.4)^2 / 25
    assert seeds_needed(1000.0, 0.5) is None
