import os
import signal
import subprocess
import sys
import time

import pytest

from gmconv_mmdet.files import folder_lock
from gmconv_mmdet.lab.reproduce.processes import (
    Interrupted,
    phase_mark,
    progress,
    run_supervised,
    signals_raise,
)

HELD = """
import sys, time
from pathlib import Path
from files import folder_lock
from processes import run_supervised
folder = Path(sys.argv[1])
with folder_lock(folder / 'lock', 5, print) as lock:
    run_supervised([sys.executable, '-c', sys.argv[2]], folder / 'log', {}, lock, lambda: None,
                   launcher=sys.argv[3] == 'launcher',
                   on_start=lambda pid: (folder / 'pid').write_text(str(pid)))
"""
SLEEP = 'import time; print("up", flush=True); time.sleep(600)'


def alive(pid):
    try:
        return open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'did not happen'
        time.sleep(0.05)


@pytest.fixture
def driver(tmp_path, repo):
    """Start a process that holds tmp_path's lock and supervises a child; gives (driver, child's
    pid)."""
    started = []

    def start(child=SLEEP, kind='plain'):
        # The two modules alone, without the package's heavy imports.
        package = repo / 'gmconv_mmdet'
        modules = f'{package}{os.pathsep}{package / "lab" / "reproduce"}'
        process = subprocess.Popen([sys.executable, '-c', HELD, str(tmp_path), child, kind],
                                   env=dict(os.environ, PYTHONPATH=modules))
        started.append(process)
        wait_until(lambda: (tmp_path / 'log').exists() and b'up' in (tmp_path / 'log').read_bytes())
        return process, int((tmp_path / 'pid').read_text())

    yield start
    for process in started:
        process.kill()
        process.wait()


def run(code, tmp_path, **kwargs):
    with folder_lock(tmp_path / 'lock', 1, print) as lock:
        return run_supervised([sys.executable, '-c', code], tmp_path / 'log', dict(os.environ),
                              lock, lambda: None, launcher=False, poll_seconds=0.05, **kwargs)


def test_output_is_appended_and_the_status_returned(tmp_path):
    assert run('print("one")', tmp_path) == 0
    assert run('import sys; print("two", file=sys.stderr); sys.exit(3)', tmp_path) == 3
    assert run('import os; os.kill(os.getpid(), 9)', tmp_path) == -signal.SIGKILL
    assert (tmp_path / 'log').read_text() == 'one\ntwo\n'


def test_a_signal_stops_the_child_first_politely(tmp_path):
    polite = ('import time\nprint("up", flush=True)\ntry:\n    time.sleep(600)\n'
              'except KeyboardInterrupt:\n    print("saved", flush=True)\n')
    pids = []

    def interrupt_when_up(pid):
        pids.append(pid)
        wait_until(lambda: b'up' in (tmp_path / 'log').read_bytes())
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted) as caught, signals_raise():
        run(polite, tmp_path, on_start=interrupt_when_up)
    assert caught.value.signum == signal.SIGINT
    assert (tmp_path / 'log').read_text() == 'up\nsaved\n' and not alive(pids[0])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='the kernel helps on Linux only')
@pytest.mark.parametrize('kind', ['plain', 'launcher'])
def test_the_child_of_a_killed_driver_ends_and_frees_the_folder(driver, tmp_path, kind):
    process, child = driver(kind=kind)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not alive(child))
    with folder_lock(tmp_path / 'lock', 10, print):
        pass


# Printed by MMEngine 0.10.7.
TRAIN = ('11/21 10:14:58 - mmengine - INFO - Epoch(train) [2][  50/7330]  lr: 7.5050e-06  eta: '
         '0:00:03  time: 0.5000  data_time: 0.0249  loss: 5.5055  loss_rpn_cls: 0.6939')
TEST = ('11/21 10:16:26 - mmengine - INFO - Epoch(test) [ 100/5000]    eta: 0:00:04  time: 0.2500  '
        'data_time: 0.0307  ')


def test_progress_is_the_newest_process_own(tmp_path):
    log = tmp_path / 'output.log'
    assert progress(log) == 'starting'
    log.write_text(f'{TRAIN}\nsome warning\n')
    assert progress(log) == ('Epoch(train) [2][ 50/7330] lr: 7.5050e-06 eta: 0:00:03 time: 0.5000 '
                             'loss: 5.5055')
    log.write_text(TRAIN.replace('5.5055', 'nan') + '\n')
    assert progress(log).endswith('loss: nan')
    log.write_text(TRAIN + '\n' + phase_mark('test', ['python', 'test.py']))
    assert progress(log) == 'starting'
    log.write_text(log.read_text() + TEST)
    assert progress(log) == 'Epoch(test) [ 100/5000] eta: 0:00:04 time: 0.2500'
