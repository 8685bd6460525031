"""Imports between the rings, style and types of the checkout."""
from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize('command', [('lint-imports', '--no-cache'), ('ruff', 'check', '--no-cache'),
                                     ('mypy', '--cache-dir', '/dev/null')], ids=lambda c: c[0])
def test_clean(repo, command):
    program = Path(sysconfig.get_path('scripts'), command[0])
    if not program.exists():
        pytest.skip(f'{command[0]} is not installed: it comes with requirements/default/needs.txt')
    done = subprocess.run([sys.executable, str(program), *command[1:]] if command[0] == 'lint-imports'
                          else [str(program), *command[1:]], cwd=repo, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
