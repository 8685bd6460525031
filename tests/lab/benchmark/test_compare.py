import time

import pytest

from gmconv_mmdet.lab.benchmark import compare


def test_a_budget_ends_the_rounds_but_for_the_first_ones():
    seen = []
    row, = compare({'a': lambda: time.sleep(0.001)}, 1000, seconds=0, on_round=seen.append)
    assert row.rounds == 3 and seen == [1, 2, 3]


@pytest.mark.parametrize('variants, rounds, warmup', [({}, 1, 1), ({'a': int}, 0, 1),
                                                      ({'a': int}, 1, -1)])
def test_refusals(variants, rounds, warmup):
    with pytest.raises(ValueError, match='compare needs a variant'):
        compare(variants, rounds, warmup=warmup)
