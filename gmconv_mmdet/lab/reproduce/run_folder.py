"""A run's folder: all that is known about the run, readable after a kill at any moment.

* ``<variant>-seed<k>/run.json``: settings, written before anything else
* ``initial.pth``: what training starts from, in common with the baseline
* ``config.py``: the whole config
* ``launches.jsonl``: one line whenever a process starts or ends
* ``output.log``: what those processes printed
* ``train/``, ``test/``: work directories of mmdet's tools
* ``result.json``: written last, by one rename; the run is finished if and only if it is there
"""
from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from ...checkpoints.whole_checkpoint import is_whole_checkpoint
from ...files import read_json
from .variants import Variant

SCHEMA = 1


class RunFolderError(Exception):
    """A run's folder can't be used; the text says why and what to do."""


class RunFolder:
    """The folder of one variant with one seed, in ``work_root``, the folder of all runs."""

    def __init__(self, work_root: Path, variant: Variant, seed: int) -> None:
        self.variant, self.seed = variant, seed
        self.path = work_root / f'{variant.name}-seed{seed}'
        self.settings = self.path / 'run.json'
        self.config = self.path / 'config.py'
        self.initial = self.path / 'initial.pth'
        self.launches = self.path / 'launches.jsonl'
        self.output = self.path / 'output.log'
        self.train_dir = self.path / 'train'
        self.test_dir = self.path / 'test'
        self.result = self.path / 'result.json'
        self.lock = self.path / 'lock'

    @property
    def title(self) -> str:
        """The run's name in messages."""
        return f'{self.variant.name} seed {self.seed}'

    def read_result(self) -> dict | None:
        """The result, or None while the run is not finished.

        Raises:
            RunFolderError: a result of something else, or from another version of this program.
        """
        result = read_json(self.result)
        if result is None:
            return None
        found = tuple(result.get(key) for key in ('schema', 'row', 'seed'))
        if found != (SCHEMA, self.variant.name, self.seed):
            raise RunFolderError(f'{self.result} is not the result of {self.title}: it says '
                                 f'schema, row, seed = {found}. Move the folder away')
        return result

    def state(self) -> str:
        """'done', 'in progress' (begun, not finished) or 'missing'."""
        if self.read_result() is not None:
            return 'done'
        return 'in progress' if self.settings.exists() else 'missing'

    def checkpoints(self) -> list[tuple[int, Path]]:
        """Epochs with a checkpoint file, newest first. A file may be incomplete."""
        found = [(int(match[1]), path) for path in self.train_dir.glob('epoch_*.pth')
                 if (match := re.fullmatch(r'epoch_(\d+)\.pth', path.name))]
        return sorted(found, reverse=True)

    def newest_checkpoint(self) -> tuple[int, Path | None]:
        """The last epoch with a complete checkpoint, and the file; ``(0, None)`` without any.

        MMEngine's own note of it, ``last_checkpoint``, is not used: a kill can leave it empty.
        """
        return next(((epoch, path) for epoch, path in self.checkpoints()
                     if is_whole_checkpoint(path)), (0, None))

    def note_launch(self, **entry: Any) -> None:
        """Append a line to the list of launches."""
        line = json.dumps(entry, ensure_ascii=False)
        # A kill may have left half a line: a new one must not become part of it.
        whole = not self.launches.exists() or self.launches.read_bytes()[-1:] in (b'', b'\n')
        with self.launches.open('a', encoding='utf-8') as file:
            file.write(('' if whole else '\n') + line + '\n')
            file.flush()
            os.fsync(file.fileno())

    def read_launches(self) -> list[dict]:
        """The list of launches, without lines that a kill cut off."""
        if not self.launches.exists():
            return []
        entries = []
        # Not splitlines(), which splits at characters within a line's texts, too.
        for line in self.launches.read_text(encoding='utf-8', errors='replace').split('\n'):
            try:
                entries.append(json.loads(line))
            except ValueError:
                continue
        return entries
