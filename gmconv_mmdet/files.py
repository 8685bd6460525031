"""Files that are there in whole or not at all, and locks on folders. The standard library alone."""
from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# What network and FUSE file systems answer to an fsync that they don't offer, of directories above
# all. A failure to write (EIO, ENOSPC, EDQUOT) is none of these.
FSYNC_REFUSED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.ENOSYS,
                 errno.EACCES, errno.EPERM, errno.EISDIR}


class FolderBusy(Exception):
    """Another process is at work in a folder; the text says which."""


def part_name(filename: str) -> str:
    """The name of a file while it is written."""
    return f'.{filename}.part'


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that it is there in whole, or as it was before, even after a power cut.

    A symbolic link that stands under the name stays: what it points to is replaced.

    Args:
        path (Path): of the file.
        write (Callable): writes the content to the path that it is given, in the same folder and
            no other process's.
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(part_name(f'{target.name}.{os.getpid()}'))
    try:
        write(part)
        rename_synced(part, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


def write_text(path: Path, text: str) -> None:
    """:func:`write_whole` of a text in UTF-8."""
    write_whole(path, lambda part: part.write_text(text, encoding='utf-8'))


def write_json(path: Path, content: Any) -> None:
    """:func:`write_whole` of JSON."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + '\n')


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is none: no file, an unfinished or a foreign one."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def rename_synced(part: Path, path: Path) -> None:
    """Rename when the content is on the disk, and have the new name there before going on."""
    _sync(part)
    part.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in FSYNC_REFUSED:
            raise


@contextlib.contextmanager
def folder_lock(path: Path, wait_seconds: float, say: Callable[[str], None]) -> Iterator[int]:
    """Hold a folder's lock file; yields its descriptor. A child process that inherits it
    (``pass_fds``) holds the lock, too, and keeps it should its parent be killed.

    Args:
        path (Path): of the lock file.
        wait_seconds (float): how long to wait for another process.
        say (Callable): called once with a sentence when there is something to wait for.

    Raises:
        FolderBusy: it is still held by another process after ``wait_seconds``.
    """
    import fcntl  # not on Windows
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
