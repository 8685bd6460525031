import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gmconv_mmdet.lab.demo.shapes import make_shapes
from gmconv_mmdet.lab.reproduce.cli import main
from gmconv_mmdet.lab.reproduce.driver import (
    Driver,
    LaunchOptions,
    Screen,
    coco_percentages,
    launch_command,
    read_test_metrics,
)
from gmconv_mmdet.lab.reproduce.run_folder import RunFolder
from gmconv_mmdet.lab.reproduce.variants import Comparison, Variant

GM = Variant('gm', Path('gm.py'))


def test_commands_are_those_of_mmdets_own_scripts():
    tool, call = Path('/mm det/train.py'), ['con fig.py', '--work-dir', 'w']
    assert launch_command(tool, call, 0) == launch_command(tool, call, 1) == [
        sys.executable, str(tool), *call]
    assert launch_command(tool, call, 8) == [
        sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=8',
        str(tool), *call, '--launcher', 'pytorch']


def test_metrics_in_the_papers_names_and_unit():
    metrics = {'coco/bbox_mAP': 0.378, 'coco/bbox_mAP_50': 0.586, 'coco/bbox_mAP_75': 0.408,
               'coco/bbox_mAP_s': 0.216, 'coco/bbox_mAP_m': 0.418, 'coco/bbox_mAP_l': 0.486}
    assert coco_percentages(metrics) == (dict(AP=37.8, AP50=58.6, AP75=40.8, APS=21.6, APM=41.8,
                                              APL=48.6), [])
    values, notes = coco_percentages(dict(metrics, **{'coco/bbox_mAP_l': -1.0}))
    assert values['APL'] is None and notes == ['APL: no such object in the data']


def test_test_metrics_are_the_newest_finished_ones(tmp_path):
    assert read_test_metrics(tmp_path) is None
    for name, content in (('20260101_000000', '{"a": 1}'), ('20260102_000000', '{"a": 2}'),
                          ('20260103_000000', '{"a"')):
        (tmp_path / name / 'vis_data').mkdir(parents=True)
        (tmp_path / name / f'{name}.json').write_text(content)
        (tmp_path / name / 'other.json').write_text('{"a": 9}')
    assert read_test_metrics(tmp_path) == {'a': 2}


def test_metrics_of_another_checkpoint_are_not_taken(tmp_path, monkeypatch):
    """A test that was made with an older last checkpoint says nothing of the one that is there."""
    run = RunFolder(tmp_path, GM, 0)
    run.train_dir.mkdir(parents=True)
    checkpoint, tested = run.train_dir / 'epoch_12.pth', []
    driver = Driver(Comparison((GM,)), LaunchOptions(0), Screen(io.StringIO()))

    def launch(run, phase, command, *args):
        tested.append(phase)
        folder = Path(command[command.index('--work-dir') + 1]) / '20260101_000000'
        folder.mkdir(parents=True)
        (folder / '20260101_000000.json').write_text(json.dumps(dict(test=len(tested))))

    monkeypatch.setattr(driver, '_launch', launch)
    checkpoint.write_bytes(b'older')
    assert driver._test(run, checkpoint, '', 0) == dict(test=1)
    assert driver._test(run, checkpoint, '', 0) == dict(test=1), 'made once'
    checkpoint.write_bytes(b'newer')
    os.utime(checkpoint, (0, 0))  # copied with an old date: dates tell nothing
    assert driver._test(run, checkpoint, '', 0) == dict(test=2)


def wait_for(condition, process, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, 'did not happen'
        time.sleep(0.05)


@pytest.mark.slow
def test_a_run_is_stopped_continued_and_reported(repo, tmp_path, capsys):
    """Ctrl-C in training, then the same command to the end; again, it does nothing; a report. From
    a folder that isn't the checkout, into one that needs quoting."""
    make_shapes(tmp_path / 'shapes', 4, 2)
    work_root = tmp_path / 'it\'s my "work"'
    config = repo / 'configs' / 'demo' / 'faster-rcnn_r18-gm_fpn_shapes.py'
    run = RunFolder(work_root, Variant('gm', config), 0)
    which = ['--config', str(config), '--rows', 'gm', '--work-root', str(work_root),
             '--data-root', str(tmp_path / 'shapes'), '--cfg-options', 'train_cfg.max_epochs=2']
    command = ['run', *which, *(f'{split}_dataloader.{key}' for split in ('train', 'val', 'test')
                                for key in ('num_workers=0', 'persistent_workers=False'))]

    def start():
        return subprocess.Popen(
            [sys.executable, str(repo / 'tools' / 'reproduce.py'), *command, '--gpus', '0'],
            cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def is_training(pid):
        try:
            return b'train.py' in Path(f'/proc/{pid}/cmdline').read_bytes()
        except OSError:
            return False

    def children():
        return [entry['pid'] for entry in run.read_launches()
                if entry['event'] == 'start' and is_training(entry['pid'])]

    stopped = start()
    wait_for(lambda: children() and (run.train_dir / 'epoch_1.pth').exists(), stopped)
    stopped.send_signal(signal.SIGINT)
    output = stopped.communicate(timeout=120)[0]
    assert stopped.returncode == 128 + signal.SIGINT, output
    assert 'Stopped by SIGINT. The same command continues' in output and 'Traceback' not in output
    assert not children() and run.state() == 'in progress'

    finished = start()
    output = finished.communicate(timeout=900)[0]
    assert finished.returncode == 0, output
    assert 'resumed after epoch 1 of 2' in output
    result = run.read_result()
    assert result['epochs'] == 2 and result['val_images'] == 2 and result['gpus'] == 0
    assert set(result['metrics']) == {'AP', 'AP50', 'AP75', 'APS', 'APM', 'APL'}
    launches = run.read_launches()
    resumed = [entry for entry in launches if '--resume' in entry.get('command', ())]
    assert [Path(entry['command'][-1]).name for entry in resumed] == ['epoch_1.pth']

    def here(*arguments):  # in this process, which has imported all that a new one would have to
        return main([str(argument) for argument in arguments]), capsys.readouterr().out

    status, output = here(*command, '--gpus', 0)
    assert status == 0 and 'done before' in output and '1 of 1 runs done' in output
    assert run.read_launches() == launches
    status, output = here('report', '--work-root', work_root)
    assert status == 0 and (work_root / 'comparison.html').is_file()
    status, output = here('plan', *which)
    assert status == 0 and '1 done, 0 in progress, 0 missing' in output
    output = here(*command, '--gpus', 0, '--seeds', 0, 1, '--print-commands')[1]
    assert '# gm seed 1' in output and 'seed 0' not in output
