"""The page of tested versions against the files that it is written from."""
from __future__ import annotations

import copy
import runpy

import pytest

COLUMN = dict(
    column='py38-torch2.1', commit='0123456789', python='3.8.18', system='Linux x86_64, 2 cores',
    versions={'torch': '2.1.2', 'mmcv': '2.1.0', 'mmdet': '3.3.0', 'numpy': '1.24.4'},
    install=dict(changed=[]), demo=dict(seconds=60, epochs=2, resumed_at_epoch=1, metrics=[]),
    tests=dict(passed=1700, failed=0, skipped=9, failures=[], reasons={'new in torch 2.6': 7, 'no GPU': 2},
               seconds=200))


@pytest.fixture
def program(repo):
    return runpy.run_path(str(repo / 'tools' / 'dev' / 'matrix_page.py'))


def test_page_is_up_to_date(program, repo):
    columns = program['read_columns'](repo / 'docs' / 'data' / 'matrix')
    assert (repo / 'docs' / 'tested_versions.md').read_text() == program['page'](columns)


def test_page_names_what_failed_changed_and_was_skipped(program):
    onedl = copy.deepcopy(COLUMN)
    onedl.update(column='onedl', install=dict(changed=['numpy']),
                 versions={'torch': '2.13.0', 'onedl-mmcv': '2.3.6', 'onedl-mmdetection': '3.5.1'})
    onedl['tests'].update(failed=1, failures=['tests.a::test_b'], reasons={})
    text = program['page']([COLUMN, onedl])
    assert '| none | 60 s | 1700 / 0 / 9, 200 s | `0123456789` |' in text
    assert '| 2.13.0 | 2.3.6 (OneDL) | 3.5.1 (OneDL) | - | - | numpy |' in text
    assert '* `py38-torch2.1`: 7, new in torch 2.6\n' in text and 'no GPU' not in text
    assert '* `onedl`: `tests.a::test_b`' in text
