"""A child process that never outlives its driver, and what it printed.

The driver may be killed at any moment. Its child then has to end too, or it would write into the
same folder as the one that the next driver starts:

* on Linux the kernel signals the child when the driver dies;
* the child inherits the folder's lock (:func:`gmconv_mmdet.files.folder_lock`), so that the next
  driver waits until the child is gone.

The standard library alone.
"""
from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_GRACE_SECONDS = 30
_TAIL_BYTES = 20_000
_PHASE_MARK = '=== '
_PROGRESS = re.compile(r'Epoch\((train|val|test)\).*?(?=data_time:|$)')
_LOSS = re.compile(r'\bloss: \S+')


class Interrupted(BaseException):
    """The driver was told to stop (Ctrl-C, SIGTERM). As KeyboardInterrupt not an Exception."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """SIGINT and SIGTERM raise :class:`Interrupted` inside the block."""

    def interrupt(signum: int, frame: object) -> None:
        raise Interrupted(signum)

    before = {signum: signal.signal(signum, interrupt)
              for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def run_supervised(command: Sequence[str], log: Path, environment: Mapping[str, str], lock: int,
                   on_poll: Callable[[], None], *, launcher: bool,
                   on_start: Callable[[int], None] = lambda pid: None,
                   poll_seconds: float = 1.0) -> int:
    """Run a program to its end and return its exit status (negative: the signal that ended it).

    Args:
        command (Sequence[str]): program and arguments; no shell.
        log (Path): its output is appended here.
        environment (Mapping[str, str]): its environment.
        lock (int): descriptor that it inherits.
        on_poll (Callable): called every ``poll_seconds`` while it runs.
        launcher (bool): it starts processes of its own, as torchrun does, and must get the chance
            to end them: it is asked to stop (SIGTERM) where other programs are killed.
        on_start (Callable): called with its process id.
        poll_seconds (float): seconds.

    Raises:
        Interrupted: the driver was told to stop. The program has ended by then.
    """
    with log.open('ab') as output:
        # A session of its own: Ctrl-C reaches the driver alone, which passes it on.
        child = subprocess.Popen(
            command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True, pass_fds=[lock],
            preexec_fn=_dies_with(os.getpid(), signal.SIGTERM if launcher else signal.SIGKILL))
    try:
        on_start(child.pid)
        while True:
            try:
                return child.wait(timeout=poll_seconds)
            except subprocess.TimeoutExpired:
                on_poll()
    finally:
        if child.poll() is None:
            _stop(child)


def _dies_with(parent: int, signum: int) -> Callable[[], None] | None:
    """What a child does before it becomes the program: ask for a signal when its parent dies."""
    if not sys.platform.startswith('linux'):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signum)
        if os.getppid() != parent:  # it died in between
            os.kill(os.getpid(), signal.SIGKILL)

    return ask


def _stop(child: subprocess.Popen) -> None:
    """End a program: politely first, then with its whole process group. A second Ctrl-C skips the
    politeness."""
    try:
        for signum in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=_GRACE_SECONDS)
                return
    except Interrupted:
        pass
    finally:
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file, '' where there is no file."""
    if not path.exists():
        return ''
    with path.open('rb') as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _TAIL_BYTES))
        text = file.read().decode('utf-8', errors='replace')
    return '\n'.join(text.splitlines()[-lines:])


def phase_mark(phase: str, command: Sequence[str]) -> str:
    """The line that separates processes in a run's log."""
    return f'{_PHASE_MARK}{phase}: {list(command)}\n'


def progress(log: Path) -> str:
    """MMEngine's newest line of progress in a log, its own estimate of the time left included;
    'starting' where the newest process has printed none."""
    for line in reversed(tail(log, 500).splitlines()):
        if match := _PROGRESS.search(line):
            loss = _LOSS.search(line)
            return ' '.join([*match[0].split(), *([loss[0]] if loss else [])])
        if line.startswith(_PHASE_MARK):
            break  # older lines belong to the process before
    return 'starting'
