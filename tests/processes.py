"""Runs programs as users do: our tools, mmdet's tools, and several processes with torchrun."""
from __future__ import annotations

import contextlib
import io
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import mmdet

REPO = Path(__file__).resolve().parents[1]
MMDET_TOOLS = Path(mmdet.__file__).parent / '.mim' / 'tools'
CPU = {'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}


def torchrun_command(*arguments, processes: int = 2) -> list[str]:
    """torchrun on a free port."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    return [sys.executable, '-m', 'torch.distributed.run', f'--nproc_per_node={processes}',
            f'--master_port={port}', *map(str, arguments)]


def torchrun(*arguments, processes: int = 2, seconds: float = 300) -> str:
    """Run a program to its end in ``processes`` processes; returns what it printed."""
    run = subprocess.run(torchrun_command(*arguments, processes=processes),
                         env={**os.environ, **CPU}, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, timeout=seconds)
    assert run.returncode == 0, run.stdout[-5000:]
    return run.stdout


def run_tool(name: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run ``tools/<name>`` in this process, which has imported all that a new one would have to.

    Raises:
        AssertionError: the tool ended in a traceback.
    """
    out, err = io.StringIO(), io.StringIO()
    before, path = sys.argv, str(REPO / 'tools' / name)
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}
    sys.argv = [path, *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(path, run_name='__main__')
        status: object = 0
    except SystemExit as end:
        status = end.code
    except Exception as error:
        raise AssertionError(f'{name} ended in a traceback: {error!r}') from error
    finally:
        sys.argv = before
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
    if isinstance(status, str):
        err.write(f'{status}\n')
        status = 1
    return subprocess.CompletedProcess([name], int(status or 0), out.getvalue(), err.getvalue())


def mmdet_tool(name: str, *arguments: object, **kwargs) -> subprocess.Popen:
    """Start one of mmdet's own tools."""
    return subprocess.Popen([sys.executable, str(MMDET_TOOLS / name), *map(str, arguments)],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs)


def finished(process: subprocess.Popen, seconds: float = 900) -> str:
    """The output of ``process`` once it has ended well; it never outlives the test."""
    try:
        output = process.communicate(timeout=seconds)[0]
    finally:
        process.kill()
    assert process.returncode == 0, output[-4000:]
    return output


def wait_for(path: Path, process: subprocess.Popen, seconds: float = 300) -> None:
    """Until ``path`` exists; fails with the process's output when it ends before."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[0][-4000:]
        assert time.monotonic() < end, f'{path} did not appear in {seconds} s'
        time.sleep(0.05)
