"""The demo as a user runs it: interrupted, continued, repeated; and what it refuses."""
from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import cv2
import pytest
import torch
from mmengine.config import Config

from gmconv_mmdet.checkpoints import read_checkpoint
from gmconv_mmdet.lab.demo.chain import DemoError, check_same_run, locked, newest_checkpoint
from gmconv_mmdet.lab.demo.summary import METRICS, read_metrics

from ...test_mmdet_tools import wait_for

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

    with locked(work):
        status, output = run(demo())
    assert status == 1 and 'Traceback' not in output
    assert 'another demo is at work' in output.splitlines()[-1]

    status, output = run(demo())
    assert status == 0, output[-4000:]
    assert 'They are there already.' in output
    assert re.search(r'It goes on after epoch [123] of 4', output)
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
    assert 'holds a run with other settings (randomness' in output
    assert '--work-dir' in output.splitlines()[-1]


def check_summary(output, work):
    """It is the last thing printed, readable, true, and the same as the JSON."""
    lines = output.splitlines()
    rules = [i for i, line in enumerate(lines) if line and set(line) == {'='}]
    closing = lines[rules[-2]:]
    assert rules[-1] == len(lines) - 1 and len(closing) < 45
    summary = json.loads((work / 'summary.json').read_text())
    text = '\n'.join(closing)

    result = max((work / 'evaluation').glob('*/*.json'))
    evaluated = json.loads(result.read_text())
    assert summary['metrics'] == {
        'AP': evaluated['coco/bbox_mAP'], 'AP50': evaluated['coco/bbox_mAP_50'],
        'AP75': evaluated['coco/bbox_mAP_75'], 'AP_S': evaluated['coco/bbox_mAP_s'],
        'AP_M': evaluated['coco/bbox_mAP_m'], 'AP_L': evaluated['coco/bbox_mAP_l']}
    for name, value in summary['metrics'].items():
        assert f'{name} {value:.3f}' in text

    checkpoint = read_checkpoint(work / 'epoch_4.pth')
    trained = {key[:-len('.sigma')]: value.item()
               for key, value in checkpoint['state_dict'].items() if key.endswith('.sigma')}
    stem = summary['sigmas'].pop('backbone.conv1')
    assert len(trained) == 16
    assert {name: found['sigma'] for name, found in summary['sigmas'].items()} == trained
    assert all(f'{name}  5.00 -> {value:.3f}' in text for name, value in trained.items())
    for low, mean, high in zip(stem['min'], stem['mean'], stem['max']):
        assert low - 1e-5 <= mean <= high + 1e-5
    assert stem['min'] != stem['max'], 'one mask for all images'

    assert summary['iterations'] == 12 and summary['epochs'] == 4
    for name in ('checkpoint', 'log', 'pictures'):
        assert summary[name] in text
    assert 'Epoch(train)' in open(summary['log']).read()
    pictures = sorted((work / 'pictures').iterdir())
    assert [path.name for path in pictures] == ['000001.png', '000002.png', '000003.png']
    assert all(cv2.imread(str(path)).shape[1] > 440 for path in pictures)  # two images wide


@pytest.mark.slow
def test_interrupted_while_it_draws(repo, tmp_path):
    process = subprocess.Popen(
        [sys.executable, repo / 'tools' / 'misc' / 'demo.py', '--images', '100000', '1', '--data', 'images'],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    end = time.monotonic() + 120
    while not list(tmp_path.glob('.images.*/train/000002.jpg')):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    process.terminate()
    status, output = run(process)
    assert status == 130 and 'Traceback' not in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ['work_dirs']


def test_newest_checkpoint_is_a_complete_one(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for epoch in (9, 10):
        torch.save(dict(weights=torch.zeros(1000)), tmp_path / f'epoch_{epoch}.pth')
    (tmp_path / 'epoch_x.pth').write_text('mine')
    shutil.copy(tmp_path / 'epoch_10.pth', tmp_path / 'epoch_11.pth')
    with open(tmp_path / 'epoch_11.pth', 'r+b') as cut_short:
        cut_short.truncate(1500)
    assert newest_checkpoint(tmp_path).name == 'epoch_10.pth'


def test_refuses_the_work_dir_of_another_training(repo, tmp_path):
    config = repo / CONFIG
    with pytest.raises(DemoError, match='not of this demo.*--work-dir'):
        check_same_run(tmp_path, config, Config.fromfile(config))
    cfg = Config.fromfile(config)
    cfg.dump(tmp_path / config.name)
    check_same_run(tmp_path, config, cfg)
    cfg.model.backbone.depth = 34
    with pytest.raises(DemoError, match=r'other settings \(model in'):
        check_same_run(tmp_path, config, cfg)


def test_one_demo_at_a_time_in_a_work_dir(tmp_path):
    with locked(tmp_path):
        with pytest.raises(DemoError, match='another demo is at work'):
            with locked(tmp_path):
                pass
    with locked(tmp_path):
        pass


def test_metrics_of_an_earlier_test_are_not_reported(tmp_path):
    """A test that detects nothing writes none."""
    def write(time, mAP):
        path = tmp_path / time / f'{time}.json'
        path.parent.mkdir()
        path.write_text(json.dumps({f'coco/bbox_{key}': mAP for key in METRICS.values()}))
        return path

    earlier = [write('20250101_000000', 0.1)]
    with pytest.raises(FileNotFoundError, match='left no metrics'):
        read_metrics(tmp_path, earlier)
    write('20250101_000100', 0.2)
    assert read_metrics(tmp_path, earlier)['AP'] == 0.2
