import json
import os
import subprocess
import sys
import time

import pytest

from gmconv_mmdet.evidence.coco_rows import full_size_config, short_config
from gmconv_mmdet.evidence.compiled_ops import check_ops
from gmconv_mmdet.evidence.stages import STAGES, Options, run_stage
from gmconv_mmdet.reproduce.rows import select_rows


def test_ops_agree_with_themselves():
    found = check_ops('cpu')
    assert list(found) == ['nms', 'roi_align', 'deform_conv2d']
    assert all(result == dict(agrees=True, difference=0.) for result in found.values())


def test_an_operator_that_fails_is_reported():
    found = check_ops('meta')
    assert not any(result['agrees'] for result in found.values())
    assert all('error' in result or result['difference'] for result in found.values())


def test_short_trainings_start_from_the_stem(shared_data):
    row, = select_rows('V', ['faster-rcnn_r50-gm-stem-l1'])
    config = short_config(row, shared_data / 'coco128', 300, 8, amp=True, rehearsal=False)
    backbone = config.model.backbone
    assert (backbone.frozen_stages, backbone.norm_eval, backbone.init_cfg) == (-1, False, None)
    assert config.train_cfg.max_epochs == 19  # 16 iterations each
    assert config.optim_wrapper.type == 'AmpOptimWrapper' and len(config.param_scheduler) == 1
    assert config.train_dataloader.dataset.ann_file == config.val_dataloader.dataset.ann_file
    given = short_config(row, shared_data / 'coco128', 300, 8, True, False, checkpoint='a.pth')
    assert given.model.backbone.init_cfg.checkpoint == 'a.pth'
    assert given.model.backbone.frozen_stages == 1


def test_full_size(shared_data):
    row, = select_rows('V', ['faster-rcnn_r50'])
    config = full_size_config(row, shared_data / 'coco128', 2)
    resize, = [step for step in config.train_pipeline if step.type == 'Resize']
    assert resize.scale == (1333, 800) and config.model.backbone.frozen_stages == 1


@pytest.mark.slow
def test_without_a_gpu_it_says_so(repo, tmp_path):
    run = subprocess.run(
        ['bash', str(repo / 'tools' / 'gpu_evidence.sh'), '--python', sys.executable, '--out',
         str(tmp_path), '--stages', 'stack'], capture_output=True, text=True,
        env={**os.environ, 'CUDA_VISIBLE_DEVICES': ''})
    assert run.returncode == 1 and '--rehearse' in run.stderr


@pytest.mark.slow
def test_rehearsal(repo, tmp_path, shared_data):
    """Every stage, tiny, on the CPU; a second call does nothing again."""
    command = ['bash', str(repo / 'tools' / 'gpu_evidence.sh'), '--python', sys.executable, '--out',
               str(tmp_path / 'out'), '--data', str(shared_data), '--rehearse']
    env = {**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'}
    run = subprocess.run(command, capture_output=True, text=True, env=env)
    assert run.returncode == 0, run.stdout + run.stderr
    files = {path.stem: path for path in (tmp_path / 'out').glob('*.json')}
    assert set(files) == set(STAGES)
    stages = {name: json.loads(path.read_text()) for name, path in files.items()}
    for stage in stages.values():
        assert stage['rehearsal'] and stage['parts']
        assert all(part['done'] for part in stage['parts'].values())
    runs = stages['cifar']['parts']['resnet20']['result']['runs']
    assert {run['config'] for run in runs} == {
        'resnet20_cifar10', 'resnet20-sgmconv_cifar10', 'resnet20-gmconv_cifar10'}
    row, = stages['coco128']['parts'].values()
    assert row['result']['finite'] and 'bbox_mAP' in row['result']['metrics']
    assert row['result']['masks'][0]['layer'] == 'backbone.conv1'
    written = {name: path.stat().st_mtime_ns for name, path in files.items()}
    said = []
    options = Options(tmp_path / 'out', 'cpu', time.time() + 60, shared_data, rehearsal=True)
    assert all(run_stage(stage, options, said.append) for stage in STAGES)
    assert said and all(line.endswith('done before') for line in said)
    assert written == {name: path.stat().st_mtime_ns for name, path in files.items()}


def test_without_time_or_data_nothing_begins(tmp_path):
    said = []
    assert not run_stage('stack', Options(tmp_path, 'cpu', until=0.), said.append)
    assert all('no time left' in line for line in said) and not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match='needs --data'):
        run_stage('coco128', Options(tmp_path, 'cpu', until=0.), said.append)
