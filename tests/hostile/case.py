"""What a case of broken input is, and how one is tried."""
from __future__ import annotations

import contextlib
import hashlib
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..processes import REPO, run_tool

SECONDS = 60  # a case that takes longer hangs

CASES: list[Case] = []


class Refused(Exception):
    """A tool ended with an exit status other than 0; the text is what it told the user."""


# What the package documents: everything else that comes out of a case is a bare traceback.
DOCUMENTED = (Refused, ValueError, OSError, ImportError, TypeError)


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        area: checkpoint, config, annotations, images or environment.
        fault: what is wrong.
        given_to: what a user calls.
        refused: whether there has to be an error; else a documented way on.
        says: pattern of what is said.
        prepare: makes the input in a folder and returns the call, which returns text or raises.
    """
    area: str
    fault: str
    given_to: str
    refused: bool
    says: str
    prepare: Callable[[Path], Callable[[], object]]
    slow: bool = False

    @property
    def name(self) -> str:
        return f'{self.area}: {self.fault}, {self.given_to}'


def case(area: str, fault: str, given_to: str, refused: str | None = None,
         goes_on: str | None = None, slow: bool = False):
    """Register ``prepare(folder)`` as a case; ``refused`` or ``goes_on`` is a pattern."""
    def register(prepare):
        CASES.append(Case(area, fault, given_to, refused is not None,
                          refused if refused is not None else goes_on, prepare, slow))
        return prepare
    return register


@dataclass(frozen=True)
class Outcome:
    """How a case ended."""
    refused: bool
    text: str


def try_case(item: Case, folder: Path) -> Outcome:
    """Try a case in an empty folder.

    Raises:
        AssertionError: what was there before is gone or changed.
        TimeoutError: it hangs.
    """
    act = item.prepare(folder)
    before = _contents(folder)
    with _time_limit(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            outcome = Outcome(False, str(act()))
        except DOCUMENTED as error:
            outcome = Outcome(True, str(error))
    after = _contents(folder)
    lost = [name for name, digest in before.items() if after.get(name) != digest]
    assert not lost, f'{lost} changed or gone'
    return Outcome(outcome.refused, tidy(outcome.text, folder))


def tidy(text: str, folder: Path) -> str:
    """A text without the folders of this machine."""
    for path, name in ((f'{folder}/', ''), (str(folder), 'FOLDER'), (f'{REPO}/', ''),
                       (sys.prefix, 'VENV'), (sys.base_prefix, 'PYTHON'), (str(REPO), '.')):
        text = text.replace(path, name)
    return text.strip()


def tool(name: str, *arguments: object) -> str:
    """Run ``tools/<name>`` in this process and return what it printed.

    Raises:
        Refused: its exit status isn't 0.
    """
    done = run_tool(name, *arguments)
    if done.returncode:
        raise Refused((done.stderr.strip() or done.stdout).strip())
    return done.stdout


def _contents(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob('*') if path.is_file()}


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def hangs(signum: int, frame: object) -> None:
        raise RuntimeError(f'it hangs: no end after {SECONDS} s')
    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def is_clear(text: str) -> bool:
    """Whether a message is for a reader: something, not a page, no traceback, no control codes."""
    return bool(text) and len(text) < 1500 and 'Traceback' not in text and all(
        line.isprintable() for line in text.split('\n')) and not re.search(r'\x1b', text)
