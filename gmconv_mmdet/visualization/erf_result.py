"""Sums of effective receptive fields that grow image by image, in a file that work resumes from."""
from __future__ import annotations

import json
import re
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ..files import write_whole
from .image_files import UnusableImage

SAVE_EVERY = 20.  # seconds


class Contribution(NamedTuple):
    """One map of one image, to be added to the sum called ``key``, and what to note about it."""
    key: str
    erf_map: np.ndarray
    row: dict[str, Any]


@dataclass
class ErfResult:
    """What has been measured of one model.

    Attributes:
        settings: what the measurement depends on; JSON values. ``label``, ``weights`` and ``mode``
            are among them.
        sums: by key the sum of the maps, ``(H, W)`` fp64.
        rows: one a map, in the order of measurement; JSON values, ``key`` included.
        done: names of the images that are in.
        skipped: image -> why it could not be used.
    """
    settings: dict[str, Any]
    sums: dict[str, np.ndarray] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def count(self, key: str) -> int:
        return sum(row['key'] == key for row in self.rows)

    def mean(self, key: str) -> np.ndarray:
        """The average map ``(H, W)``."""
        return self.sums[key] / self.count(key)

    def add(self, name: str, contributions: list[Contribution]) -> None:
        for key, erf_map, row in contributions:
            self.sums[key] = self.sums.get(key, 0.) + erf_map
            self.rows.append(dict(row, key=key, image=name))
        self.done.append(name)
        self.skipped.pop(name, None)

    def save(self, path: Path) -> None:
        """Write everything as ``.npz``, complete or not at all: the sums under their keys, the rest
        as JSON under ``about``."""
        about = dict(settings=self.settings, rows=self.rows, done=self.done, skipped=self.skipped)

        def write(part: Path) -> None:
            with part.open('wb') as file:  # given a name, numpy would add .npz to it
                np.savez(file, about=np.array(json.dumps(about)), **self.sums)

        write_whole(path, write)

    @classmethod
    def load(cls, path: Path) -> ErfResult:
        """From a file of :meth:`save`; any other is a ``ValueError``."""
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file['about']))
                return cls(sums={key: file[key] for key in file.files if key != 'about'}, **about)
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f'{path} holds no effective receptive fields of ours '
                             f'({type(error).__name__}): name another folder') from error


def result_file(out: Path, label: str) -> Path:
    """Where a model's measurement is kept."""
    return out / f'{re.sub(r"[^A-Za-z0-9._-]+", "-", label)}.npz'


def measure(path: Path, settings: dict[str, Any], items: Mapping[str, Any],
            contributions: Callable[[Any], list[Contribution]]) -> ErfResult:
    """Measure what is missing of ``items`` in a result's file, which is saved on the way: after an
    interrupt the same call goes on. An image that can't be read is named and left out.

    Args:
        path: ``.npz``.
        settings: of the measurement, see :class:`ErfResult`.
        items: image name -> what ``contributions`` takes.
        contributions: measures one image. Raises :class:`UnusableImage`.

    Raises:
        ValueError: the file holds a measurement with other settings, or no item could be used.
    """
    result = ErfResult.load(path) if path.exists() else ErfResult(settings)
    other = [key for key in {**settings, **result.settings}
             if result.settings.get(key) != settings.get(key)]
    if other:
        raise ValueError(
            f'{path} holds a measurement with other settings: '
            + ', '.join(f'{key} {result.settings.get(key)!r}, now {settings.get(key)!r}'
                        for key in other) + '. Name another folder (--out)')
    path.parent.mkdir(parents=True, exist_ok=True)
    missing = [name for name in items if name not in set(result.done)]
    saved = time.monotonic()
    with tqdm(missing, desc=settings['label'], unit='image', initial=len(items) - len(missing),
              total=len(items), disable=not missing) as bar:
        for name in bar:
            try:
                result.add(name, contributions(items[name]))
            except UnusableImage as error:
                result.skipped[name] = str(error)
                bar.write(f'skipped {error}', file=sys.stderr)
            if time.monotonic() - saved > SAVE_EVERY:
                result.save(path)
                saved = time.monotonic()
    if not result.rows:
        raise ValueError(f'{settings["label"]}: none of {len(items)} images could be used'
                         + ''.join(f'\n  {why}' for why in list(result.skipped.values())[:5]))
    if missing:
        result.save(path)
    return result
