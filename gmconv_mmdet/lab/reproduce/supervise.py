"""A child process that never outlives its driver, and a lock that outlives the driver if it must.

The driver may be killed at any moment. Its child then has to end too, or it would write into the
same folder as the one that the next driver starts:

* on Linux the kernel signals the child when the driver dies;
* the child inherits the folder's lock, so that the next driver waits until the child is gone.
"""
from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_GRACE_SECONDS = 30


class FolderBusy(Exception):
    """Another process is at work in a folder; the text says which."""


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


@contextlib.contextmanager
def folder_lock(path: Path, wait_seconds: float, say: Callable[[str], None]) -> Iterator[int]:
    """Hold a folder's lock file; yields its descriptor, to be passed on to child processes.

    Raises:
        FolderBusy: it is still held by another process after ``wait_seconds``.
    """
    with path.open('a+') as file:
        end, told = time.monotonic() + wait_seconds, False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip() or 'another process'
                if time.monotonic() > end:
                    raise FolderBusy(f'{owner} or a process it started is at work in '
                                     f'{path.parent}. Wait for it, or stop it') from None
                if not told:
                    say(f'waiting for {owner} or a process it started to leave {path.parent.name}')
                    told = True
                time.sleep(0.2)
        file.seek(0)
        file.truncate()
        file.write(f'process {os.getpid()} on {os.uname().nodename}')
        file.flush()
        yield file.fileno()


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
