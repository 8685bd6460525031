"""What CONTRIBUTING.md promises: where to look first, and files and folders that exist."""
from __future__ import annotations

import re

import pytest


@pytest.fixture(scope='module')
def page(repo):
    return (repo / 'CONTRIBUTING.md').read_text(encoding='utf-8')


def test_ten_questions_lead_to_the_file_that_holds_the_answer(page, repo):
    rows = re.findall(r'^\| (.+\?) \| (.+) \| `(.+)` \|$', page, re.M)
    assert len(rows) == 10
    for question, files, there in rows:
        for path in re.findall('`([^`]+)`', files):
            assert there in (repo / path).read_text(encoding='utf-8'), question


def test_files_folders_and_markers_exist(page, repo):
    rings = re.search(r'^1\. .*(?=^A tool in)', page, re.M | re.S)[0]
    named = [f'gmconv_mmdet/{name}' for name in re.findall(r'`(\w+(?:/|\.py))`', rings)]
    assert len(named) > 12
    named += re.findall(r'(?:tools|tests|docs|requirements|gmconv_mmdet)/[\w./]*\w', page)
    assert not [name for name in named if not (repo / name).exists()]
    markers = (repo / 'pyproject.toml').read_text(encoding='utf-8')
    assert all(f'"{marker}: ' in markers for marker in ('slow', 'nightly'))
