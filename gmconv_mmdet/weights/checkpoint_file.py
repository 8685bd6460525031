"""Reads a weights file: tensors and plain values only, and one clear sentence where it can't.

``.pth`` files go through torch's safe unpickler (``weights_only=True``), which runs no code from
the file; ``.safetensors`` hold nothing but tensors and text.
"""
from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path

import torch

from .safe_load import RefusedObject, allow_mmengine_checkpoints

_ZIP_START = b'PK\x03\x04'

# What torch's safe unpickler says of an object that it doesn't allow; the object's name in [1].
_REFUSED = re.compile(r'GLOBAL ([\w.]+)|getattr\([^)]*\)|unrecognized function|'
                      r'class [\w.]+')


class CheckpointError(ValueError):
    """A checkpoint that can't be used; the message says why and what to do."""


def read_checkpoint(path: str | Path, map_location='cpu', mmap: bool = True) -> dict:
    """The content of a checkpoint file.

    Args:
        path (str | Path): a local ``.pth`` / ``.pt`` (any other suffix is read as such) or
            ``.safetensors`` file.
        map_location: as :func:`torch.load` takes it; ``.safetensors`` always go to the CPU.
        mmap (bool): map tensors from the file where its format allows. Say False where the file
            may be overwritten while its tensors live.

    Returns:
        dict: as saved. For ``.safetensors``: ``dict(state_dict=..., meta=...)``, ``meta`` the
        file's text entries.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is empty, truncated, a web page, a Git LFS pointer, holds objects
            other than tensors and plain values, or no dictionary.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'no checkpoint at {path}')
    _refuse_other_files(path)
    _refuse_packed(path)
    if path.suffix == '.safetensors':
        return _read_safetensors(path)
    checkpoint = _read_torch(path, map_location, mmap)
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f'{path} holds a {type(checkpoint).__name__}, not a dictionary of '
                              'tensors: save model.state_dict()')
    return checkpoint


def _refuse_other_files(path: Path) -> None:
    with path.open('rb') as file:
        start = file.read(512)
    if not start:
        raise CheckpointError(f'{path} is empty: the download or the copy failed, fetch it again')
    if start.lstrip()[:1] == b'<':
        raise CheckpointError(f'{path} is a web page, not weights: the link wants a login or has '
                              'moved. Open it in a browser and save the file itself')
    if start.startswith(b'version https://git-lfs'):
        raise CheckpointError(f'{path} is a Git LFS pointer, not weights: run "git lfs pull"')
    if start.startswith(_ZIP_START) and not _is_archive(path):
        raise CheckpointError(f'{path} is truncated ({path.stat().st_size} bytes): the download or '
                              'the copy broke off, fetch it again')


def _is_archive(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile as error:  # an archive that claims to go on in another file
        raise CheckpointError(f'{path} is damaged or no torch checkpoint '
                              f'({_first_sentence(error)}): fetch it again') from error


def _refuse_packed(path: Path) -> None:
    """torch stores tensors uncompressed: an archive that unpacks to more than it is was made by
    something else, perhaps to fill the memory."""
    if not _is_archive(path):
        return
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise CheckpointError(f'{path} is damaged or no torch checkpoint '
                              f'({_first_sentence(error)}): fetch it again') from error
    if any(entry.filename.endswith('/constants.pkl') for entry in entries):
        return  # TorchScript, whose code is compressed: torch refuses it by its name
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(f'{path} is a compressed archive ({size:,} bytes that unpack to '
                              f'{unpacked:,}), which torch never writes: it was packed anew, or is '
                              'hostile. Unpack it, or fetch the file that torch saved')


def _read_torch(path: Path, map_location, mmap: bool) -> object:
    allow_mmengine_checkpoints()
    try:
        return torch.load(path, map_location=map_location, weights_only=True,
                          mmap=mmap and zipfile.is_zipfile(path))
    except RefusedObject as error:
        raise CheckpointError(f'{path} was refused: it holds {error}. It was not written by '
                              'MMEngine, or is hostile') from error
    except pickle.UnpicklingError as error:
        found = _REFUSED.search(str(error))
        if not found:
            raise CheckpointError(f'{path} is damaged or no torch checkpoint '
                                  f'({_first_sentence(error)}): fetch it again') from error
        raise CheckpointError(
            f'{path} was refused: it holds {found[1] or found[0]}, where only tensors and plain '
            'values are allowed since anything else could run code. If you trust its source, let '
            'that source save model.state_dict() alone') from error
    except Exception as error:
        # On files that are cut, spoilt or hostile torch's readers raise all there is, MemoryError,
        # RecursionError and AssertionError among them.
        raise CheckpointError(f'{path} is damaged, truncated or no torch checkpoint '
                              f'({_first_sentence(error)}): fetch it again') from error


def _read_safetensors(path: Path) -> dict:
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
        raise CheckpointError(f'{path} is damaged, truncated or no safetensors file '
                              f'({_first_sentence(error)}): fetch it again') from error


def _first_sentence(error: Exception) -> str:
    """The telling part of torch's page-long messages."""
    text = ' '.join(str(error).split())
    for start in ('WeightsUnpickler error: ', 'a trusted source. '):
        text = text.partition(start)[2] or text
    text = text.partition(' Check the documentation')[0]
    text = text.split('. ')[0][:160].rstrip('. ') or type(error).__name__
    return ''.join(letter if letter.isprintable() else '?' for letter in text)
