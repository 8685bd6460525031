"""Every case ends as it says: one clear error or a documented way on."""
import re

import pytest

from . import ALL
from .case import is_clear, try_case


@pytest.mark.parametrize('item', [
    pytest.param(item, id=item.name.replace('`', ''), marks=[pytest.mark.slow] * item.slow)
    for item in ALL])
def test_case(item, tmp_path):
    outcome = try_case(item, tmp_path)
    assert outcome.refused == item.refused, outcome.text
    assert re.search(item.says, outcome.text, re.DOTALL), outcome.text
    assert is_clear(outcome.text) or not outcome.refused, outcome.text


def test_no_two_cases_have_one_name():
    names = [item.name for item in ALL]
    assert len(names) >= 60 and len(set(names)) == len(names)
