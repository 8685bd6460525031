"""Reads a weights file: tensors and plain values only, and one clear sentence where it can't.

``.pth`` files go through :mod:`.safe_pickle`, which runs no code from the file, whatever torch's
version, its list of safe globals and its environment variables; ``.safetensors`` hold nothing but
tensors and text.
"""
from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

from .safe_pickle import NumpyMissing, RefusedObject, UnusableTensor
from .torch_file import ZIP_START, NoDevice, NotTorch, read_archive, read_old_format


class CheckpointError(ValueError):
    """A checkpoint that can't be used; the message says why and what to do."""


class UnreadableCheckpoint(CheckpointError, pickle.UnpicklingError):
    """A file that is refused, or no checkpoint. Also what ``torch.load`` raises then, so that code
    which falls back on something else still does."""


def read_checkpoint(path: str | Path, map_location: Any = 'cpu') -> dict[str, Any]:
    """The content of a checkpoint file.

    Args:
        path (str | Path): a local ``.pth`` / ``.pt`` (any other suffix is read as such) or
            ``.safetensors`` file.
        map_location: as :func:`torch.load` takes it; ``.safetensors`` always go to the CPU.

    Returns:
        dict: as saved. For ``.safetensors``: ``dict(state_dict=..., meta=...)``, ``meta`` the
        file's text entries.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableCheckpoint: the file is empty, truncated, a web page, a Git LFS pointer, holds
            objects other than tensors, plain values and MMEngine's log histories, or no
            dictionary.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'no checkpoint at {path}')
    with path.open('rb') as file:
        start = file.read(512)
    _refuse_other_files(path, start)
    if path.suffix == '.safetensors':
        return _read_safetensors(path)
    checkpoint = _read_torch(path, start, map_location)
    if not isinstance(checkpoint, dict):
        raise UnreadableCheckpoint(f'{path} holds a {type(checkpoint).__name__}, not a dictionary '
                                   'of tensors: save model.state_dict()')
    return checkpoint


def _refuse_other_files(path: Path, start: bytes) -> None:
    says = None
    if not start:
        says = 'is empty: the download or the copy failed, fetch it again'
    elif start.lstrip()[:1] == b'<':
        says = ('is a web page, not weights: the link wants a login or has moved. Open it in a '
                'browser and save the file itself')
    elif start.startswith(b'version https://git-lfs'):
        says = 'is a Git LFS pointer, not weights: run "git lfs pull"'
    elif start[257:262] == b'ustar':
        says = ('is a tar archive: unpack it if others packed it; if a torch before 0.2 wrote it, '
                'save the weights anew with another one')
    if says:
        raise UnreadableCheckpoint(f'{path} {says}')


def _read_torch(path: Path, start: bytes, map_location: Any) -> object:
    try:
        if not start.startswith(ZIP_START):
            return read_old_format(path, map_location)
        if not zipfile.is_zipfile(path):
            raise NotTorch(f'is truncated ({path.stat().st_size} bytes): the download or the copy '
                           'broke off, fetch it again')
        return read_archive(path, map_location)
    except NoDevice as error:
        raise CheckpointError(f'{path} {error}') from error
    except NotTorch as error:
        raise UnreadableCheckpoint(f'{path} {error}') from error
    except UnusableTensor as error:
        raise UnreadableCheckpoint(f'{path} holds {error}, which no network can load here: save '
                                   'the plain floating-point weights') from error
    except NumpyMissing as error:
        raise UnreadableCheckpoint(f'{path} holds {error}, and numpy is not installed: pip install '
                                   'numpy, or save model.state_dict() alone') from error
    except RefusedObject as error:
        raise UnreadableCheckpoint(
            f'{path} was refused: it holds {_first_sentence(error)}, where only tensors and plain '
            'values are allowed since anything else could run code. If you trust its source, let '
            'that source save model.state_dict() alone') from error
    except Exception as error:
        # On files that are cut, spoilt or hostile the readers raise all there is, MemoryError,
        # RecursionError and AssertionError among them.
        raise UnreadableCheckpoint(f'{path} is damaged, truncated or no torch checkpoint '
                                   f'({_first_sentence(error)}): fetch it again') from error


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ImportError(f'reading {path} needs the package safetensors: pip install '
                          'safetensors') from error
    try:
        with safe_open(path, framework='pt') as file:
            return dict(state_dict={name: file.get_tensor(name) for name in file.keys()},
                        meta=file.metadata() or {})
    except (SafetensorError, ValueError, OverflowError, MemoryError, RuntimeError,
            KeyError, TypeError, AttributeError) as error:
        raise UnreadableCheckpoint(f'{path} is damaged, truncated or no safetensors file '
                                   f'({_first_sentence(error)}): fetch it again') from error


def _first_sentence(error: Exception) -> str:
    text = ' '.join(str(error).split()).split('. ')[0][:160].rstrip('. ') or type(error).__name__
    return ''.join(letter if letter.isprintable() else '?' for letter in text)
