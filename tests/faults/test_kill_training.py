import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, 'fork'), reason='forks its trainings')
def test_killed_trainings_end_as_undisturbed_ones(tmp_path):
    """A little of the run that docs/faults.md shows."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name('kill_training.py')), '--work-root',
         str(tmp_path / 'work root'), '--kills', '2', '0', '1', '--epochs', '2', '2', '2',
         '--images', '8', '4', '--share-cut', '0', '--no-full-disk',
         '--json', str(tmp_path / 'out.json')],
        capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '3 kills, 3 resumes' in done.stdout and 'losses of data: 0' in done.stdout
    assert 'all bit-equal' in done.stdout
    compared = json.loads((tmp_path / 'out.json').read_text())['scenarios']['ranks']['equal']
    assert compared['sigmas'] >= 50 and compared['losses'] > 0 and compared['metrics'] > 0
