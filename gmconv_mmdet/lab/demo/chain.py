"""The demo from images to summary: draw the set, train and evaluate with mmdet's own tools, sum up.

Each step is skipped where its result is there already, and training goes on from its newest
checkpoint, so that a call after an interruption continues.
"""
from __future__ import annotations

import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mmdet
from mmengine.config import Config

from ...checkpoints.whole_checkpoint import is_whole_checkpoint
from ...doctor import FAIL, cuda_check
from ...openmmlab.config_file import read_config
from .shapes import make_shapes
from .summary import as_text, summarize, write_summary

# What a run in a work dir must share with the one that is asked for, or it can't be continued.
RUN_SETTINGS = ('model', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'randomness')
MAX_THREADS = 8  # more of them slow so small a network down


class DemoError(Exception):
    """The demo cannot go on; the text says why and what to do."""


def checkpoint_epoch(checkpoint: Path | None) -> int:
    """Epochs trained when MMEngine wrote ``epoch_<n>.pth``; 0 for None."""
    return 0 if checkpoint is None else int(re.fullmatch(r'epoch_(\d+)\.pth', checkpoint.name)[1])


def newest_checkpoint(work_dir: Path) -> Path | None:
    """The newest complete checkpoint."""
    complete = [path for path in work_dir.glob('epoch_*.pth')
                if re.fullmatch(r'epoch_\d+', path.stem) and is_whole_checkpoint(path)]
    return max(complete, key=checkpoint_epoch, default=None)


def check_same_run(work_dir: Path, config: Path, cfg: Config) -> None:
    """Raise a :class:`DemoError` where ``work_dir`` holds checkpoints of another training."""
    written = work_dir / config.name
    if not written.exists():
        raise DemoError(f'{work_dir} holds checkpoints, but not of this demo: {config.name} is not '
                        'there. Name another folder: --work-dir')
    there = read_config(written)
    other = [key for key in RUN_SETTINGS if there.get(key) != cfg.get(key)]
    if other:
        raise DemoError(f'{work_dir} holds a run with other settings ({", ".join(other)} in '
                        f'{written}). Name another folder: --work-dir')


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold a lock on ``folder``; yields its descriptor. A child that inherits it holds the lock
    too, so that a training which outlives its demo is not joined by a second one."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DemoError(f'another demo is at work in {folder}. Wait for it, or name another '
                        'folder: --work-dir') from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def wait_to_end(child: subprocess.Popen) -> None:
    """End a child after an interrupt, which Ctrl-C has sent to it as well."""
    for stop in (lambda: None, lambda: child.send_signal(signal.SIGINT), child.kill):
        stop()
        try:
            child.wait(timeout=3)
            return
        except subprocess.TimeoutExpired:
            continue


def run_tool(name: str, arguments: list[str], env: dict[str, str], lock: int) -> None:
    """Run one of the tools that mmdet's wheel carries."""
    tool = Path(mmdet.__file__).parent / '.mim' / 'tools' / name
    if not tool.exists():
        raise DemoError(f'{tool} is missing: mmdet was not installed from its wheel. '
                        'pip install mmdet==3.3.0 brings it')
    command = [sys.executable, str(tool), *arguments]
    print(f'$ {shlex.join(command)}', flush=True)
    with subprocess.Popen(command, env=env, pass_fds=(lock, )) as child:
        try:
            status = child.wait()
        except KeyboardInterrupt:
            wait_to_end(child)
            raise
    if status < 0:
        raise DemoError(f'mmdet\'s {name} was ended from outside (signal {-status}; 9 is often a '
                        'lack of memory). The same command goes on where it stopped.')
    if status:
        raise DemoError(f'mmdet\'s {name} failed with exit code {status}, see above.')


def tool_environment(data: Path) -> dict[str, str]:
    """Environment of mmdet's tools; also set in this process, which looks at the result."""
    os.environ['GMCONV_DEMO_DATA'] = str(data)
    os.environ['MPLBACKEND'] = 'Agg'
    os.environ.setdefault('OMP_NUM_THREADS', str(min(MAX_THREADS, os.cpu_count() or 1)))
    # GNU OpenMP's threads spin for milliseconds while they wait, which makes training several times
    # slower beside other work. Not spinning at all costs a quarter of the speed on idle cores.
    os.environ.setdefault('GOMP_SPINCOUNT', '10000')
    check = cuda_check()
    if check.status == FAIL:
        print(f'The GPU is not used: {check.found}. The fix: {check.fix}', flush=True)
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    return dict(os.environ)


def train(config: Path, work_dir: Path, env: dict[str, str], lock: int) -> Path:
    """Train what is left to train and return the last checkpoint."""
    cfg = read_config(config)
    epochs = cfg.train_cfg.max_epochs
    checkpoint = newest_checkpoint(work_dir)
    arguments = [str(config), '--work-dir', str(work_dir)]
    if checkpoint is not None:
        check_same_run(work_dir, config, cfg)
        if checkpoint_epoch(checkpoint) >= epochs:
            print(f'It is finished already: {checkpoint}. To train anew, name another folder: '
                  '--work-dir', flush=True)
            return checkpoint
        print(f'It goes on after epoch {checkpoint_epoch(checkpoint)} of {epochs}.', flush=True)
        arguments += ['--resume', str(checkpoint)]
    run_tool('train.py', arguments, env, lock)
    return work_dir / f'epoch_{epochs}.pth'


def run_demo(config: Path, data: Path, work_dir: Path, images: tuple[int, int] = (320, 80)) -> str:
    """Run the demo, or what is left of it.

    Args:
        config: the detector's config; its ``data_root`` is ``$GMCONV_DEMO_DATA``.
        data: folder of the images; made where it does not exist.
        work_dir: folder of checkpoints, logs, pictures and ``summary.json``.
        images: numbers of training and of validation images.

    Returns:
        str: the closing summary, for people.

    Raises:
        DemoError: a step cannot be done. ShapesError: ``data`` holds something else.
    """
    config, data, work_dir = config.resolve(), data.resolve(), work_dir.resolve()
    work_dir.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with locked(work_dir) as lock:
        print(f'[1/4] images in {data}', flush=True)
        if not make_shapes(data, *images):
            print('They are there already.', flush=True)
        env = tool_environment(data)
        print(f'[2/4] training in {work_dir}', flush=True)
        checkpoint = train(config, work_dir, env, lock)
        print('[3/4] evaluation', flush=True)
        evaluation = work_dir / 'evaluation'
        earlier = list(evaluation.glob('*/*.json'))
        run_tool('test.py', [str(config), str(checkpoint), '--work-dir', str(evaluation)], env,
                 lock)
        print('[4/4] sigmas and pictures', flush=True)
        summary = summarize(config, checkpoint, work_dir, evaluation, earlier)
        summary['seconds']['this call'] = round(time.monotonic() - start)
        write_summary(summary, work_dir / 'summary.json')
    return as_text(summary)
