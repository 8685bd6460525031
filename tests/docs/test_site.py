"""The site of docs/: built as CONTRIBUTING.md says, warnings (dead links too) as errors."""
from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
MISSING = [name for name in ('sphinx', 'furo', 'myst_parser', 'mmdet')
           if importlib.util.find_spec(name) is None]


def test_command_is_the_documented_one():
    command = 'python -m sphinx -W --keep-going -n -c docs . '
    for page in ('CONTRIBUTING.md', 'docs/conf.py', '.readthedocs.yaml'):
        assert command in (REPO / page).read_text(encoding='utf-8'), page


def test_every_page_is_in_the_index():
    """One line a page; Sphinx says the same, where it is installed."""
    listed = re.findall(r'^[\w./]+$', (REPO / 'docs' / 'index.md').read_text(encoding='utf-8'), re.M)
    pages = {path.stem for path in REPO.glob('docs/*.md')} - {'index'}
    assert pages == {line for line in listed if '/' not in line}


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f'not installed: {", ".join(MISSING)} (docs/requirements.txt)')
def test_site_builds_without_warnings(tmp_path):
    result = subprocess.run(
        [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', '-n', '-c', 'docs', '-d',
         str(tmp_path / 'doctrees'), '.', str(tmp_path / 'site')],
        cwd=REPO, env={**os.environ, 'PYTHONWARNINGS': 'ignore'}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-5000:]
    api = (tmp_path / 'site' / 'docs' / 'api.html').read_text(encoding='utf-8')
    import gmconv_mmdet
    undocumented = [name for name in gmconv_mmdet.__all__
                    if name != '__version__' and f'id="gmconv_mmdet.{name}"' not in api]
    assert not undocumented
    assert (tmp_path / 'site' / 'searchindex.js').exists()
    assert (tmp_path / 'site' / 'index.html').exists()
