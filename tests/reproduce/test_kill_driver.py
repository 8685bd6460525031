import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='looks into /proc')
def test_a_row_survives_sigkills_of_its_driver(shared_data, tmp_path):
    """One row of the run that docs/rehearsal.md shows for all fourteen."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name('kill_driver.py')), '--data-root',
         str(shared_data / 'coco128'), '--work-root', str(tmp_path / 'work root'), '--rows',
         'faster-rcnn_r50-gm-stem-l1', '--kills', '2', '--row-seconds', '30'],
        capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '1 rows, 2 SIGKILLs' in done.stdout and 'No finished row' in done.stdout
