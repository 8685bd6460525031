"""Every case of the table ends as the table says: one clear error or a documented way on."""
import re

import pytest

from .case import is_clear, try_case
from .table import ALL


@pytest.mark.parametrize('item', [
    pytest.param(item, id=item.name.replace('`', ''), marks=[pytest.mark.slow] * item.slow)
    for item in ALL])
def test_case(item, tmp_path):
    outcome = try_case(item, tmp_path)
    assert outcome.refused == item.refused, outcome.text
    assert re.search(item.says, outcome.text, re.DOTALL), outcome.text
    assert is_clear(outcome.text) or not outcome.refused, outcome.text


def test_the_document_has_every_case(repo):
    names = [item.name for item in ALL]
    assert len(names) >= 60 and len(set(names)) == len(names)
    text = (repo / 'docs' / 'hostile_input.md').read_text()
    rows = {tuple(cell.strip() for cell in line.split('|')[1:3])
            for line in text.splitlines() if line.startswith('| ')}
    missing = [item.name for item in ALL if (item.fault, item.given_to) not in rows]
    assert not missing, f'make it again: python -m tests.hostile.table. Missing: {missing}'
