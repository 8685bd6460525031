"""How a call on broken input ends: one clear error, or a documented way on."""
from __future__ import annotations

import contextlib
import hashlib
import re
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..processes import REPO, run_tool

DEMO = REPO / 'configs' / 'demo' / 'faster-rcnn_r18-gm_fpn_shapes.py'
SECONDS = 60  # what takes longer hangs


class Refused(Exception):
    """A tool ended with an exit status other than 0; the text is what it told the user."""


# What the package documents: everything else that comes out of a call is a bare traceback.
DOCUMENTED = (Refused, ValueError, OSError, ImportError, TypeError)


def assert_refused(folder: Path, act: Callable[[], object], says: str) -> None:
    """``act()`` ends in one error that a reader can use, and no file of ``folder`` is lost."""
    with unharmed(folder), pytest.raises(DOCUMENTED) as error:
        act()
    text = str(error.value)
    assert re.search(says, text, re.DOTALL), text
    assert len(text) < 1500 + len(str(folder)) and 'Traceback' not in text
    assert all(line.isprintable() for line in text.split('\n')), text  # no control codes


def assert_goes_on(folder: Path, act: Callable[[], object], says: str) -> None:
    """``act()`` ends well and returns a text with ``says``, and no file of ``folder`` is lost."""
    with unharmed(folder):
        text = str(act())
    assert re.search(says, text, re.DOTALL), text


def tool(name: str, *arguments: object) -> str:
    """Run ``tools/<name>`` in this process and return what it printed.

    Raises:
        Refused: its exit status isn't 0.
    """
    done = run_tool(name, *arguments)
    if done.returncode:
        raise Refused((done.stderr.strip() or done.stdout).strip())
    return done.stdout


@contextlib.contextmanager
def unharmed(folder: Path) -> Iterator[None]:
    """Files that are there stay as they are, and nothing hangs."""
    def hangs(signum: int, frame: object) -> None:
        raise RuntimeError(f'it hangs: no end after {SECONDS} s')

    def contents() -> dict[Path, str]:
        return {path: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in folder.rglob('*') if path.is_file()}

    before, handler = contents(), signal.signal(signal.SIGALRM, hangs)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
    after = contents()
    assert not [path for path, digest in before.items() if after.get(path) != digest]
