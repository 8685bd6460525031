"""From what a config calls a checkpoint to a local file: names, links, downloads.

Downloads go to torch hub's folder, where MMEngine's own loader keeps them too. A lock file lets one
process of a machine download while the others wait, and the hash in a file's name
(``resnet50-0676ba61.pth``) is checked, after a download and for a file that is there already.
"""
from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse

import torch.hub

from .checkpoint_file import CheckpointError

# Zoos of plain networks: no file behind these names has masks.
PLAIN_ZOOS = ('torchvision://', 'modelzoo://', 'open-mmlab://', 'openmmlab://', 'mmcls://')
# Scheme -> a function that gives the links by name. `openmmlab.zoos` fills it.
ZOOS: dict[str, Callable[[], Mapping[str, str]]] = {}
_HASH_IN_NAME = re.compile(r'-([0-9a-f]{8,64})\.')
_DATE = re.compile(r'20[0-9]{6}')
_PROGRESS = 2  # file descriptor of stderr


def resolve(checkpoint: str) -> str:
    """A link or a path in place of a zoo's name.

    Args:
        checkpoint (str): ``torchvision://NAME``, ``open-mmlab://NAME``, ``http(s)://...`` or a
            path.

    Raises:
        CheckpointError: an unknown name or an unknown kind of link.
    """
    scheme, separator, name = str(checkpoint).partition('://')
    if not separator or scheme in ('http', 'https'):
        return str(checkpoint)
    if f'{scheme}://' not in PLAIN_ZOOS:
        raise CheckpointError(f'{checkpoint}: unknown kind of link. A checkpoint is a path, or '
                              'starts with torchvision://, open-mmlab://, http:// or https://')
    if scheme not in ZOOS:
        raise CheckpointError(f'{checkpoint}: the addresses behind {scheme}:// are kept by '
                              'mmengine, which is not installed. Give a path or an https:// link')
    known = ZOOS[scheme]()
    if name not in known:
        near = [other for other in sorted(known) if other.startswith(name[:6])][:8]
        raise CheckpointError(f'{checkpoint}: {scheme} knows no {name!r}' +
                              (f', but {", ".join(near)}' if near else ''))
    return known[name]


def cache_path(url: str) -> Path:
    """Where the file behind a link is, or would be, kept."""
    return Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(url).path).name)


def local_file(checkpoint: str | Path) -> Path:
    """The local file of a checkpoint; downloads it where it has to.

    Safe to call from all processes of a job at once.

    Args:
        checkpoint (str | Path): as for :func:`resolve`.

    Returns:
        Path: of a path, the path itself, whether or not there is a file.

    Raises:
        CheckpointError: an unknown link, a download that failed, or a file whose SHA-256 isn't the
            one in its name.
    """
    resolved = resolve(str(checkpoint))
    if not resolved.startswith(('http://', 'https://')):
        return Path(resolved).expanduser()
    path = cache_path(resolved)
    if not path.is_file():  # it is there whole or not at all; the folder may be read-only
        try:
            from filelock import FileLock  # which torch brings along from 2.0 on
        except ImportError as error:
            raise CheckpointError(f'downloading {resolved} needs the package filelock: pip install '
                                  f'filelock, or put the file at {path}') from error
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(f'{path}.lock').acquire()
        except OSError as error:
            raise CheckpointError(f'{resolved} can\'t be kept in {path.parent} ({error}): set '
                                  'TORCH_HOME to a folder that can be written to, or put the file '
                                  'there') from error
        with lock:
            if not path.is_file():
                _download(resolved, path)
    _check_hash(path, f'{checkpoint} as kept in {path}')
    return path


def _download(url: str, path: Path) -> None:
    partial = path.with_name(f'{path.name}.partial')
    try:
        torch.hub.download_url_to_file(url, str(partial), progress=os.isatty(_PROGRESS))
    except (URLError, OSError) as error:
        raise CheckpointError(f'{url} could not be downloaded ({error}). Without internet, fetch '
                              f'it elsewhere and put it at {path}, or give the path of a local '
                              'checkpoint') from error
    try:
        _check_hash(path, url, partial)
    except CheckpointError:
        partial.unlink()
        raise
    partial.replace(path)


def _check_hash(path: Path, called: str, file: Path | None = None) -> None:
    wanted = _HASH_IN_NAME.search(path.name)
    if not wanted or _DATE.fullmatch(wanted[1]):
        return
    found = sha256(file or path)
    if not found.startswith(wanted[1]):
        raise CheckpointError(f'{called} is not what its name promises: SHA-256 {found[:16]}..., '
                              f'expected {wanted[1]}... It is truncated or was changed: delete it '
                              'and fetch it again')


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open('rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()
