"""The demo as a user runs it: interrupted, continued, repeated; and what it refuses."""
from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time

import cv2
import pytest

from gmconv_mmdet.checkpoints import read_checkpoint

from ...processes import wait_for

CONFIG = 'configs/demo/faster-rcnn_r18-gm_fpn_shapes.py'

TINY = '''
_base_ = {base!r}
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
                  dict(type='Resize', scale=(64, 64), keep_ratio=True),
                  dict(type='PackDetInputs')]
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_epochs=4, val_interval=10)
randomness = dict(seed={seed})
'''


@pytest.fixture
def demo(repo, tmp_path):
    """Starts `tools/misc/demo.py` in a folder that isn't ours, with few and small images."""
    def start(seed=0):
        (tmp_path / 'tiny.py').write_text(TINY.format(base=str(repo / CONFIG), seed=seed))
        return subprocess.Popen(
            [sys.executable, repo / 'tools' / 'misc' / 'demo.py', '--config', 'tiny.py', '--images', '6',
             '3', '--data', 'my images', '--work-dir', 'work'],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True)

    started = []
    yield lambda **kwargs: started.append(start(**kwargs)) or started[-1]
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.communicate()


def run(process):
    """Its exit code and what it printed."""
    output = process.communicate(timeout=600)[0]
    return process.returncode, output


@pytest.mark.slow
def test_interrupted_continued_repeated(demo, tmp_path):
    work = tmp_path / 'work'
    first = demo()
    wait_for(work / 'epoch_1.pth', first)
    os.killpg(first.pid, signal.SIGINT)  # Ctrl-C reaches all processes of a terminal
    status, output = run(first)
    assert status == 130, output[-2000:]
    assert output.endswith('The same command goes on where this one stopped.\n')
    assert not (work / 'epoch_4.pth').exists(), 'finished before the interrupt came'

    with open(work / '.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, output = run(demo())
    assert status == 1 and 'Traceback' not in output
    assert 'is at work in' in output.splitlines()[-1]

    status, output = run(demo())
    assert status == 0, output[-4000:]
    assert 'They are there already.' in output
    assert re.search(r'resumed epoch: [123], iter: [369]', output)
    check_summary(output, work)
    written = (work / 'epoch_4.pth').stat().st_mtime_ns

    status, output = run(demo())
    assert status == 0, output[-4000:]
    assert f'It is finished already: {work / "epoch_4.pth"}' in output
    check_summary(output, work)
    assert (work / 'epoch_4.pth').stat().st_mtime_ns == written

    status, output = run(demo(seed=1))
    assert status == 1 and 'Traceback' not in output
    assert 'holds a training with other settings' in output
    assert '--work-dir' in output.splitlines()[-1]


def check_summary(output, work):
    """It is the last thing printed, short, and true."""
    text = output[output.index('=' * 78):]
    assert text.endswith('=' * 78 + '\n') and len(text.splitlines()) < 45

    result = max((work / 'evaluation').glob('*/*.json'))
    evaluated = json.loads(result.read_text())
    assert f'AP {evaluated["coco/bbox_mAP"]:.3f}  AP50 {evaluated["coco/bbox_mAP_50"]:.3f}' in text

    state = read_checkpoint(work / 'epoch_4.pth')['state_dict']
    trained = {key[:-len('.sigma')]: abs(state[key].item()) for key in state if key.endswith('.sigma')}
    printed = {line.split()[0]: line.split(' -> ')[1] for line in text.splitlines() if '->' in line}
    assert 's2' in printed.pop('backbone.conv1') and len(trained) == 16
    assert printed == {name: f'{value:.3f}' for name, value in trained.items()}

    assert '4 epochs, 12 iterations' in text
    assert f'checkpoint  {work / "epoch_4.pth"}' in text
    for folder in (work / 'pictures', work / 'masks'):
        assert f'  {folder}\n' in text
        assert cv2.imread(str(min(folder.glob('*.[jp]*')))).shape[1] > 200


@pytest.mark.slow
def test_interrupted_while_it_draws(repo, tmp_path):
    process = subprocess.Popen(
        [sys.executable, repo / 'tools' / 'misc' / 'demo.py', '--images', '100000', '1', '--data', 'images'],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    end = time.monotonic() + 600
    while not list(tmp_path.glob('.images.*/train/000002.jpg')):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    process.terminate()
    status, output = run(process)
    assert status == 130 and 'Traceback' not in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ['work_dirs']
