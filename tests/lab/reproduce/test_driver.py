import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gmconv_mmdet.lab.reproduce.cli import main
from gmconv_mmdet.lab.reproduce.driver import (
    Driver,
    LaunchOptions,
    Screen,
    coco_percentages,
    launch_command,
    read_test_metrics,
)
from gmconv_mmdet.lab.reproduce.run_folder import Recipe, RunFolder
from gmconv_mmdet.lab.reproduce.table import Row

ROW = Row('faster-rcnn', 'r50-gm-stem-l1')


def test_commands_are_those_of_mmdets_own_scripts():
    tool, call = Path('/mm det/train.py'), ['con fig.py', '--work-dir', 'w']
    one = launch_command(tool, call, LaunchOptions(1, 'none'))
    assert one == [sys.executable, str(tool), *call]
    torchrun = launch_command(tool, call, LaunchOptions(8, 'pytorch'))
    assert torchrun == [sys.executable, '-m', 'torch.distributed.run', '--standalone',
                        '--nproc_per_node=8', str(tool), *call, '--launcher', 'pytorch']
    two = LaunchOptions(16, 'pytorch', nodes=2, rendezvous='one:29500')
    assert launch_command(tool, call, two)[3:7] == [
        '--nnodes=2', '--rdzv_backend=c10d', '--rdzv_endpoint=one:29500', '--nproc_per_node=8']
    assert launch_command(tool, call, two.on_this_node()) == torchrun
    srun = launch_command(tool, call, LaunchOptions(16, 'slurm', 8, ('--partition', 'gpu')))
    assert srun[:7] == ['srun', '--ntasks=16', '--ntasks-per-node=8', '--gres=gpu:8',
                        '--kill-on-bad-exit=1', '--partition', 'gpu']
    assert srun[7:] == [sys.executable, '-u', str(tool), *call, '--launcher', 'slurm']
    assert '--gres=gpu:4' in launch_command(tool, call, LaunchOptions(4, 'slurm', 8))


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
    run = RunFolder(tmp_path, ROW, 0)
    run.train_dir.mkdir(parents=True)
    checkpoint, tested = run.train_dir / 'epoch_12.pth', []
    driver = Driver(Recipe(), LaunchOptions(0), Screen(io.StringIO()))

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


class Reproduce:
    """`tools/reproduce.py` in a folder that isn't the checkout."""

    def __init__(self, repo, folder, data, capsys):
        self.capsys = capsys
        self.tool, self.folder, self.data = repo / 'tools' / 'reproduce.py', folder, data
        self.work_root = folder / 'it\'s my "work"'
        self.run = RunFolder(self.work_root, ROW, 0, rehearsal=True)

    def arguments(self, command, *arguments):
        common = ['--table', 'V', '--rehearse', '--work-root', str(self.work_root)]
        if command != 'report':
            common += ['--rows', ROW.name]
        if command in ('run', 'check'):
            common += ['--data-root', str(self.data), '--gpus', '0']
        return [command, *common, *arguments]

    def start(self, *arguments):
        return subprocess.Popen([sys.executable, str(self.tool), *self.arguments(*arguments)],
                                cwd=self.folder, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT)

    def finish(self, *arguments):
        process = self.start(*arguments)
        return process.communicate(timeout=900)[0], process.returncode

    def here(self, *arguments):
        """In this process, which has imported all that a new one would have to."""
        status = main(self.arguments(*arguments))
        return self.capsys.readouterr().out, status

    def children(self):
        return [entry['pid'] for entry in self.run.read_launches() if entry['event'] == 'start'
                and b'train.py' in self._command(entry['pid'])]

    @staticmethod
    def _command(pid):
        try:
            return Path(f'/proc/{pid}/cmdline').read_bytes()
        except OSError:
            return b''


@pytest.fixture
def reproduce(repo, tmp_path, small_coco, capsys):
    return Reproduce(repo, tmp_path, small_coco, capsys)


def wait_for(condition, process, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, 'did not happen'
        time.sleep(0.05)


@pytest.mark.slow
def test_a_rehearsed_row_is_stopped_continued_and_reported(reproduce):
    """Ctrl-C in training, then the same command to the end; again, it does nothing; a report."""
    run = reproduce.run
    stopped = reproduce.start('run')
    wait_for(lambda: reproduce.children() and run.train_dir.exists(), stopped)
    stopped.send_signal(signal.SIGINT)
    output = stopped.communicate(timeout=120)[0]
    assert stopped.returncode == 128 + signal.SIGINT, output
    assert 'Stopped by SIGINT. The same command continues' in output and 'Traceback' not in output
    assert not reproduce.children() and run.state() == 'in progress'

    output, status = reproduce.finish('run')
    assert status == 0, output
    assert 'REHEARSAL' in output and 'resumed after epoch 1 of 2' in output
    result = run.read_result()
    assert result['rehearsal'] and result['epochs'] == 2 and result['batch_size'] == 2
    assert set(result['metrics']) == {'AP', 'AP50', 'AP75', 'APS', 'APM', 'APL'}
    launches = run.read_launches()
    resumed = [e for e in launches if '--resume' in e.get('command', ())]
    assert [Path(e['command'][-1]).name for e in resumed] == ['epoch_1.pth']

    output, status = reproduce.here('run')
    assert status == 0 and 'done before' in output and '1 of 1 runs done' in output
    assert run.read_launches() == launches

    output, status = reproduce.here('report')
    assert status == 0, output
    report = (reproduce.work_root / 'rehearsal' / 'rehearsal-table-V.md').read_text()
    assert f'| `{ROW.name}` | 0 |' in report
    output, status = reproduce.here('plan')
    assert status == 0 and '1 done, 0 in progress, 0 missing' in output

    other = reproduce.here('run', '--seeds', '0', '1', '--images-per-gpu', '4',
                           '--print-commands')[0]
    assert '# faster-rcnn_r50-gm-stem-l1 seed 1 (rehearsal)' in other and 'seed 0' not in other
