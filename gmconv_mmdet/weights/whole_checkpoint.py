"""Whether a checkpoint file is complete, and which of a folder's is the newest that is."""
from __future__ import annotations

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


def resume_candidates(named: str, folder: Path, pattern: str) -> Iterator[Path]:
    """Checkpoints to resume from, the best first; not all need be there or complete.

    Args:
        named (str): the last one's path as noted, ``''`` where there is no note.
        folder (Path): of the checkpoints.
        pattern (str): their names, as a glob.

    Yields:
        Path: the noted one, if it was moved or copied with its folder that in the folder first;
        then all others, the last written first.
    """
    if named:
        if Path(named).parent != folder:
            yield folder / Path(named).name
        yield Path(named)
    others = [path for path in folder.glob(pattern) if path.name != Path(named).name]
    yield from sorted(others, key=lambda path: path.stat().st_mtime_ns, reverse=True)


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
