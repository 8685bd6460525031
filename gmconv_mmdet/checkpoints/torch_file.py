"""Reads the two formats of ``torch.save`` in Python, through :mod:`.safe_pickle`.

The archive (torch 1.6 and newer) is a zip file of uncompressed entries, ``NAME/data.pkl`` and a
``NAME/data/KEY`` for each storage. The older format is five pickles end to end (a number to know it
by, a version, facts of the machine, the content, the storages' keys) and then the storages, each
behind its length.
"""
from __future__ import annotations

import ctypes
import io
import struct
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .safe_pickle import load

ZIP_START = b'PK\x03\x04'
_MAGIC, _VERSION = 0x1950a86a20f9469cfc6c, 1001


class NotTorch(ValueError):
    """A file that ``torch.save`` did not write; the message goes on after its name."""


class NoDevice(RuntimeError):
    """A device of tensors that this machine lacks; the message goes on after the file's name."""


def read_archive(path: Path, map_location: Any = None) -> object:
    """The content of a zip file of ``torch.save``.

    Raises:
        NotTorch: a TorchScript program, a compressed archive, or another byte order.
        RefusedObject, NoDevice, Exception: as of :func:`load`.
    """
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if any(name.endswith('/constants.pkl') for name in entries):
            raise NotTorch('is a TorchScript program, not weights: save model.state_dict()')
        _refuse_packed(archive.infolist(), path.stat().st_size)
        pickled, = (name for name in entries if name.count('/') == 1 and name.endswith('/data.pkl'))
        root = pickled[:-len('data.pkl')]
        order = archive.read(f'{root}byteorder') if f'{root}byteorder' in entries else b'little'
        if order.decode() != sys.byteorder:
            raise NotTorch('was written on a machine of another byte order: save it anew here')
        storages: dict[str, Tensor] = {}

        def storage(dtype: torch.dtype, key: str, location: str, numel: int) -> Tensor:
            if key not in storages:
                entry = entries[f'{root}data/{key}']
                content = torch.empty(entry.file_size, dtype=torch.uint8)
                with archive.open(entry) as file:
                    _fill(content, file)
                storages[key] = _placed(content, location, map_location)
            return _typed(storages[key], dtype, numel)

        return load(io.BytesIO(archive.read(pickled)), storage)


def read_old_format(path: Path, map_location: Any = None) -> object:
    """The content of a file that torch wrote before 1.6.

    Raises:
        NotTorch: another kind of file, or another byte order.
        RefusedObject, NoDevice, Exception: as of :func:`load`.
    """
    noted: dict[str, tuple[int, str, int]] = {}
    storages: dict[str, Tensor] = {}

    def note(dtype: torch.dtype, key: str, location: str, numel: int, view: Any = None) -> Tensor:
        noted[key] = numel, location, torch.empty(0, dtype=dtype).element_size()
        flat = torch.empty(numel, dtype=dtype, device='meta')
        return flat if view is None else flat[view[1]:view[1] + view[2]]

    def storage(dtype: torch.dtype, key: str, location: str, numel: int, view: Any = None) -> Tensor:
        flat = _typed(storages[key], dtype, numel)
        return flat if view is None else flat[view[1]:view[1] + view[2]]

    with path.open('rb') as file:
        if load(file) != _MAGIC or load(file) != _VERSION:
            raise ValueError('it does not begin as torch\'s files do')
        if load(file)['little_endian'] != (sys.byteorder == 'little'):
            raise NotTorch('was written on a machine of another byte order: save it anew here')
        start = file.tell()
        load(file, note)  # the storages lie behind the content: read it once for their sizes
        for key in load(file):
            numel, location, item = noted[key]
            length, = struct.unpack('<q', file.read(8))
            if length != numel or numel * item > path.stat().st_size:
                raise ValueError(f'a storage of {numel} values where {length} are stored')
            content = torch.empty(numel * item, dtype=torch.uint8)
            _fill(content, file)
            storages[key] = _placed(content, location, map_location)
        file.seek(start)
        return load(file, storage)


def _refuse_packed(entries: Iterable[zipfile.ZipInfo], size: int) -> None:
    """``torch.save`` stores tensors uncompressed: an archive that unpacks to more than it is was
    made by something else, perhaps to fill the memory."""
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise NotTorch(f'is a compressed archive ({size:,} bytes that unpack to {unpacked:,}), '
                       'which torch never writes: it was packed anew, or is hostile. Unpack it, or '
                       'fetch the file that torch saved')


def _fill(content: Tensor, file: Any) -> None:
    # Not content.numpy(): the core needs no numpy.
    memory = (ctypes.c_ubyte * content.numel()).from_address(content.data_ptr())
    target = memoryview(memory).cast('B')
    while len(target):
        count = file.readinto(target)
        if not count:
            raise EOFError('a storage ends early')
        target = target[count:]


def _typed(content: Tensor, dtype: torch.dtype, numel: int) -> Tensor:
    """A storage's bytes as the flat tensor of its values."""
    flat = content.view(dtype)
    if flat.numel() != numel:
        raise ValueError(f'a storage of {numel} values where {flat.numel()} are stored')
    return flat


def _placed(content: Tensor, location: str, map_location: Any) -> Tensor:
    """A storage on the device that ``map_location``, as of ``torch.load``, gives it."""
    if callable(map_location):
        storage = getattr(content, 'untyped_storage', content.storage)()
        mapped = map_location(storage, location)
        device = location if mapped is None else mapped.device
    elif isinstance(map_location, dict):
        device = map_location.get(location, location)
    else:
        device = location if map_location is None else map_location
    if str(device) == 'cpu':
        return content
    try:
        return content.to(device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise NoDevice(f'holds tensors of the device {device}, which this machine lacks: load it '
                       'with map_location=\'cpu\'') from error
