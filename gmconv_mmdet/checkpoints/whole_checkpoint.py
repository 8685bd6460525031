"""Whether a checkpoint file is complete, and which of a folder's is the newest that is."""
from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

ZIP_START = b'PK\x03\x04'  # of what torch.save writes


def is_whole_checkpoint(path: Path) -> bool:
    """Whether a file that torch wrote is complete: its parts, listed at its end, have the checksums
    noted there. Reads the whole file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # damaged archives raise errors of a dozen kinds
        return False


def resume_candidates(pointer: Path, folder: Path, files: Iterable[Path]) -> Iterator[Path]:
    """Checkpoints to resume from, the best first; not all need be there or complete.

    Args:
        pointer (Path): MMEngine's ``last_checkpoint``, a text file with the last one's path. It may
            be missing or cut short.
        folder (Path): of the checkpoints.
        files (Iterable[Path]): the checkpoints in it, or in folders below.

    Yields:
        Path: those written after the pointer was (a kill came in between); the one it names, if
        that was moved or copied with its folder the one there; all others. The last written first.
    """
    named = read_pointer(pointer)
    written = {path: path.stat().st_mtime_ns for path in files}
    newest_first = sorted(written, key=lambda path: written[path], reverse=True)
    ordered = newest_first
    if named:
        noted_at = pointer.stat().st_mtime_ns
        ordered = [*(path for path in newest_first if written[path] > noted_at),
                   *(path for path in newest_first if _is_below(path, folder, named)),
                   folder / Path(named).name, Path(named), *newest_first]
    yield from dict.fromkeys(ordered)  # each once


def _is_below(path: Path, folder: Path, named: str) -> bool:
    """Whether ``named``, of a folder that was moved, is ``path`` of this one."""
    own = Path(os.path.relpath(path, folder)).parts
    return Path(named).parts[-len(own):] == own


def first_whole(candidates: Iterable[Path]) -> tuple[Path | None, list[Path]]:
    """The first complete one of some checkpoints, None without any, and the incomplete ones before
    it. Those that aren't there don't count."""
    damaged: list[Path] = []
    for path in candidates:
        if is_whole_checkpoint(path):
            return path, damaged
        if path.is_file():
            damaged.append(path)
    return None, damaged


def read_pointer(pointer: Path) -> str:
    """The path in a ``last_checkpoint`` file, ``''`` where there is none."""
    try:
        return pointer.read_text(encoding='utf-8').strip()
    except (OSError, UnicodeDecodeError):
        return ''
