import time

import pytest

from gmconv_mmdet.lab.benchmark import compare


def test_ratios_of_work_that_differs_by_ten():
    def wait(seconds):
        return lambda: time.sleep(seconds)

    calls = []
    rows = compare({'short': wait(0.002), 'long': wait(0.02), 'noted': lambda: calls.append(1)},
                   rounds=5, warmup=2)
    assert [row.name for row in rows] == ['short', 'long', 'noted'] and len(calls) == 7
    short, long, _ = rows
    assert (short.ratio, short.ratio_low, short.ratio_high, short.rounds) == (1, 1, 1, 5)
    assert 0.002 <= short.seconds_low <= short.seconds <= short.seconds_high
    assert long.ratio > 1 and long.ratio_low <= long.ratio <= long.ratio_high


def test_a_budget_ends_the_rounds_but_for_the_first_ones():
    seen = []
    row, = compare({'a': lambda: time.sleep(0.001)}, 1000, seconds=0, on_round=seen.append)
    assert row.rounds == 3 and seen == [1, 2, 3]


@pytest.mark.parametrize('variants, rounds, warmup', [({}, 1, 1), ({'a': int}, 0, 1),
                                                      ({'a': int}, 1, -1)])
def test_refusals(variants, rounds, warmup):
    with pytest.raises(ValueError, match='compare needs a variant'):
        compare(variants, rounds, warmup=warmup)
