"""Each sabotage is answered by one line that names cause and way out."""
from __future__ import annotations

import re

import pytest

from .sabotages import SABOTAGES, Sabotage, answer, prepared


@pytest.fixture(autouse=True)
def torch_home(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch home'))


@pytest.mark.slow
@pytest.mark.parametrize('item', [pytest.param(item, id=item.fault)
                                  for item in SABOTAGES])
def test_one_line_names_cause_and_way_out(item, tmp_path, shared_data):
    status, lines = answer(prepared(item, tmp_path / 'my data', shared_data))
    faults = [line for line in lines if line.startswith('fault')]
    assert status == 1 and len(faults) == 1, lines
    assert re.search(item.says, faults[0]), faults[0]
    assert 'Traceback' not in faults[0] and len(faults[0]) < 1000


@pytest.mark.slow
@pytest.mark.parametrize('trial', [False, True])
def test_the_unspoilt_set_is_sound(trial, tmp_path, shared_data):
    status, lines = answer(prepared(Sabotage('none', '', trial=trial), tmp_path / 'my data',
                                    shared_data))
    assert status == 0 and lines[-1].startswith('no fault found'), lines
    assert not [line for line in lines if not line.startswith('ok')][:-1], lines
    assert any('evaluation' in line for line in lines) == trial


def test_the_page_shows_answers_to_these_sabotages(repo):
    """docs/preflight.md is written by tools/dev/sabotage_table.py."""
    page = (repo / 'docs' / 'preflight.md').read_text(encoding='utf-8').split('## Sabotages')[1]
    rows = dict(re.findall(r'^\| (.+?) \| (.+) \|$', page, re.MULTILINE)[1:])
    says = {item.fault: item.says for item in SABOTAGES}
    assert len(rows) > 10 and all(re.search(says[fault], said) for fault, said in rows.items())
    assert f'{len(SABOTAGES)} sabotages, each answered by one line, 0 bare tracebacks' in page
