"""How far a run is, read from what MMEngine prints."""
from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_TAIL_BYTES = 20_000
_TRAIN = re.compile(r'Epoch\(train\)\s*\[(\d+)\]\[\s*(\d+)/(\d+)\]'
                    r'(?:.*?\btime: ([\d.]+))?(?:.*?\bloss: ([\w.+-]+))?')
_EVALUATE = re.compile(r'Epoch\((val|test)\)\s*(?:\[(\d+)\])?\[\s*(\d+)/(\d+)\]'
                       r'(?:.*?\btime: ([\d.]+))?')


class Progress(NamedTuple):
    """The newest line of a log."""
    phase: str  # 'train', 'val' or 'test'
    epoch: int | None
    iteration: int  # within the epoch
    iterations: int  # of an epoch
    seconds: float | None  # per iteration, averaged by MMEngine
    loss: str | None

    def text(self, max_epochs: int) -> str:
        where = f'epoch {self.epoch}/{max_epochs}, ' if self.epoch else ''
        loss = f', loss {self.loss}' if self.loss else ''
        return f'{self.phase} {where}iteration {self.iteration}/{self.iterations}{loss}'

    def seconds_left(self, max_epochs: int) -> float | None:
        """Of the phase; of the training, all epochs that are left, evaluations not counted."""
        if self.seconds is None:
            return None
        epochs_left = max_epochs - self.epoch if self.phase == 'train' else 0
        return self.seconds * (self.iterations - self.iteration + epochs_left * self.iterations)


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file, '' where there is no file."""
    if not path.exists():
        return ''
    with path.open('rb') as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _TAIL_BYTES))
        text = file.read().decode('utf-8', errors='replace')
    return '\n'.join(text.splitlines()[-lines:])


def read_progress(log: Path) -> Progress | None:
    """The newest progress in a log; None where it says nothing yet."""
    for line in reversed(tail(log, 500).splitlines()):
        if match := _TRAIN.search(line):
            epoch, iteration, iterations, seconds, loss = match.groups()
            return Progress('train', int(epoch), int(iteration), int(iterations),
                            float(seconds) if seconds else None, loss)
        if match := _EVALUATE.search(line):
            phase, epoch, iteration, iterations, seconds = match.groups()
            return Progress(phase, int(epoch) if epoch else None, int(iteration),
                            int(iterations), float(seconds) if seconds else None, None)
        if line.startswith(_PHASE_MARK):
            return None  # older lines belong to the process before
    return None


_PHASE_MARK = '=== '


def phase_mark(phase: str, command: list[str]) -> str:
    """The line that separates processes in a run's log."""
    return f'{_PHASE_MARK}{phase}: {command}\n'


def clock(seconds: float | None) -> str:
    """'2 d 03:04', '3:04:05' (hours, minutes, seconds) or '?'."""
    if seconds is None:
        return '?'
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f'{days} d {hour:02}:{minute:02}' if days else f'{hours}:{minute:02}:{second:02}'
