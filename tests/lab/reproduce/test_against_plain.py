"""``run --config --against plain`` from end to end, killed on the way."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gmconv_mmdet.lab.demo.shapes import make_shapes


@pytest.mark.nightly
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='children die with the driver '
                    'on Linux')
def test_two_seeds_survive_two_sigkills(repo, tmp_path):
    """SIGKILL in the first training after its first checkpoint, and once more when a run is done;
    the same command then finishes. No finished run, epoch or test is made twice, and the results of
    a resumed run are those of an undisturbed one."""
    make_shapes(tmp_path / 'shapes', 4, 2)
    out, kept = tmp_path / 'my runs', tmp_path / 'results'
    command = [
        sys.executable, str(repo / 'tools' / 'reproduce.py'), 'run', '--config',
        str(repo / 'configs' / 'demo' / 'faster-rcnn_r18-gm_fpn_shapes.py'), '--against', 'plain',
        '--seeds', '0', '1', '--out', str(out), '--results', str(kept), '--gpus', '0', '--threads',
        '1', '--jobs', '2', '--cfg-options', 'train_cfg.max_epochs=2', 'train_cfg.val_interval=2',
        'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
        'val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False',
        'test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False',
        'custom_hooks.0.interval=1', 'default_hooks.logger.interval=1']
    environment = dict(os.environ, GMCONV_DEMO_DATA=str(tmp_path / 'shapes'), MPLBACKEND='Agg')
    log = tmp_path / 'driver.log'

    def start():
        with log.open('ab') as output:
            return subprocess.Popen(command, env=environment, stdout=output,
                                    stderr=subprocess.STDOUT)

    def kill_when(there):
        driver, end = start(), time.monotonic() + 600
        while not list(out.glob(there)):
            assert driver.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        return {path: path.stat().st_mtime_ns for path in out.glob('*/result.json')}

    kill_when('*/train/epoch_1.pth')
    finished = kill_when('*/result.json')
    assert finished
    assert start().wait(timeout=900) == 0, log.read_text()[-3000:]
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, 'made again'

    results = [json.loads(path.read_text()) for path in sorted(kept.glob('*.json'))]
    assert [(one['variant'], one['seed']) for one in results] == [
        ('gm', 0), ('gm', 1), ('plain', 0), ('plain', 1)]
    resumed = 0
    for folder in out.glob('*-seed*'):
        lines = [json.loads(line) for line in (folder / 'launches.jsonl').read_text().splitlines()
                 if line.startswith('{') and line.endswith('}')]
        ends = [line['phase'] for line in lines if line['event'] == 'end']
        # A kill may come between a test's end and the note of it: then it isn't made again either.
        assert ends.count('train') <= 1 and ends.count('test') <= 1
        resumed += any('--resume' in line.get('command', ()) for line in lines)
    assert resumed, 'the first kill came after a checkpoint'
    for one in results:
        assert [epoch['epoch'] for epoch in one['history']['epochs']] in ([2], [])
        assert one['history']['loss']['steps'] == [1, 2]  # 4 images, batch 4, 2 epochs
        assert one['paired'].startswith('150 of') and len(one['samples']) == 2
        assert bool(one['masks']['final']) == (one['variant'] == 'gm')
    report = subprocess.run([*command[:2], 'report', '--results', str(kept)], env=environment,
                            capture_output=True, text=True)
    assert report.returncode == 0, report.stdout + report.stderr
    assert '| gm | 2 |' in (kept / 'comparison.md').read_text()
    assert 'data:image/jpeg' in (kept / 'comparison.html').read_text()
    assert Path(kept / 'comparison.json').is_file()
