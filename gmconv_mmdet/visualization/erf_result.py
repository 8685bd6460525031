"""Sums of effective receptive fields that grow image by image, in a file that work resumes from."""
from __future__ import annotations

import json
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from ..files import write_whole
from .image_files import UnusableImage

SAVE_EVERY = 20.  # seconds
Item = TypeVar('Item')


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

    def add(self, name: str, contributions: Sequence[Contribution]) -> None:
        for key, erf_map, row in contributions:
            if key in self.sums:
                self.sums[key] += erf_map
            else:
                self.sums[key] = erf_map.astype(np.float64)
            self.rows.append(dict(row, key=key, image=name))
        self.done.append(name)

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


def open_result(path: Path, settings: dict[str, Any]) -> ErfResult:
    """A result to go on with, or a new one.

    Raises:
        ValueError: the file holds a measurement with other settings.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        return ErfResult(settings)
    result = ErfResult.load(path)
    other = [key for key in {**settings, **result.settings}
             if result.settings.get(key) != settings.get(key)]
    if other:
        raise ValueError(
            f'{path} holds a measurement with other settings: '
            + ', '.join(f'{key} {result.settings.get(key)!r}, now {settings.get(key)!r}'
                        for key in other) + '. Name another folder (--out)')
    return result


def measure(result: ErfResult, path: Path, items: Sequence[tuple[str, Item]],
            contributions: Callable[[Item], Sequence[Contribution]]) -> ErfResult:
    """Add what is still missing of ``items``, saving on the way.

    An interrupt saves what is complete; the same call goes on from there. An image that can't be
    read is named and left out.

    Args:
        result: from :func:`open_result`.
        path: its file.
        items: image name and what ``contributions`` takes.
        contributions: measures one image. Raises :class:`UnusableImage`.

    Raises:
        ValueError: no item could be used.
    """
    done = set(result.done)
    missing = [(name, item) for name, item in items if name not in done]
    saved = time.monotonic()
    bar = tqdm(missing, desc=result.settings['label'], unit='image',
               initial=len(items) - len(missing), total=len(items), disable=not missing)
    adding = False
    try:
        for name, item in bar:
            try:
                found = contributions(item)
            except UnusableImage as error:
                result.skipped[name] = str(error)
                bar.write(f'skipped {error}', file=sys.stderr)
                continue
            adding = True
            result.add(name, found)
            adding = False
            result.skipped.pop(name, None)
            if time.monotonic() - saved > SAVE_EVERY:
                result.save(path)
                saved = time.monotonic()
    except KeyboardInterrupt:
        if not adding:  # else the last complete file is what there is
            result.save(path)
        raise
    finally:
        bar.close()
    if not result.rows:
        raise ValueError(f'{result.settings["label"]}: none of {len(items)} images could be used'
                         + ''.join(f'\n  {why}' for why in list(result.skipped.values())[:5]))
    if missing:
        result.save(path)
    return result
