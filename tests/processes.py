"""Starts a Python program in several real processes with torchrun, as users do."""
from __future__ import annotations

import os
import socket
import subprocess
import sys

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
