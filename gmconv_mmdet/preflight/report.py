"""One line per finding, on the screen as it is found, and what the exit status follows from."""
from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TextIO

OK, NOTE, FAULT = 'ok', 'note', 'fault'
_SECONDS = 5  # between two lines of progress where they can't overwrite each other


@dataclass(frozen=True)
class Finding:
    """What a check found: ``status`` is OK, NOTE (worth knowing) or FAULT."""
    check: str
    status: str
    text: str


class Report:
    """Findings, printed one a line as they come; progress goes to another stream.

    Args:
        out: gets the findings; None prints nothing.
        progress: gets one line that overwrites itself on a terminal, else one every five seconds.
    """

    def __init__(self, out: TextIO | None = None, progress: TextIO | None = None) -> None:
        self.out, self.progress = out, progress
        self.findings: list[Finding] = []
        self._overwrites = progress is not None and progress.isatty()
        self._shown_at = time.monotonic()
        self._dirty = False

    def add(self, check: str, status: str, text: str) -> None:
        """Add a finding; line breaks in its text become spaces."""
        finding = Finding(check, status, ' '.join(text.split()))
        if finding in self.findings:
            return
        self.findings.append(finding)
        self._clear()
        if self.out is not None:
            self.out.write(f'{status:5}  {check:13}  {finding.text}\n')
            self.out.flush()
        self._shown_at = time.monotonic()

    def faults(self, check: str, texts: Iterable[str], otherwise: str = '') -> bool:
        """Add each text as a fault, or ``otherwise`` as OK where there is none; returns whether
        there is any."""
        texts = list(texts)
        for text in texts:
            self.add(check, FAULT, text)
        if not texts and otherwise:
            self.add(check, OK, otherwise)
        return bool(texts)

    def has_fault(self, *checks: str) -> bool:
        """Whether one of these checks, or any without names, found a fault."""
        return any(finding.status == FAULT and (not checks or finding.check in checks)
                   for finding in self.findings)

    def doing(self, text: str) -> None:
        """Say what takes a while."""
        if self.progress is None:
            return
        if self._overwrites:
            self.progress.write(f'\r       {text[:100]}\x1b[K')
            self._dirty = True
        elif time.monotonic() - self._shown_at >= _SECONDS:
            self.progress.write(f'...    {text}\n')
            self._shown_at = time.monotonic()
        self.progress.flush()

    def _clear(self) -> None:
        if self._dirty:
            self.progress.write('\r\x1b[K')
            self.progress.flush()
            self._dirty = False

    def as_json(self) -> str:
        """A list of objects with check, status and text."""
        return json.dumps([asdict(finding) for finding in self.findings], indent=2)
