"""Lets MMEngine load its own training checkpoints where torch is 2.6 or newer.

There ``torch.load`` refuses MMEngine's log histories, so that ``--resume``, ``load_from`` and
``tools/test.py`` fail. MMEngine's own loader of local files stays the first to try: what it reads,
it reads as before. A file that torch refuses is read by :func:`read_checkpoint`, which is as safe.
"""
from __future__ import annotations

import os
import pickle

import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

from ..checkpoints.checkpoint_file import CheckpointError, UnreadableCheckpoint, read_checkpoint
from .private_api import registered_loader

SWITCH = 'GMCONV_KEEP_MMENGINE_LOADER'  # set to 1, MMEngine's loader stays as it is
_STOCK = mmengine_checkpoint.load_from_local


def load_from_local(filename: str, map_location=None) -> dict:
    """MMEngine's loader of the same name, and another try where torch refuses the file.

    Args:
        filename (str): a local file.
        map_location: as :func:`torch.load` takes it.

    Raises:
        UnreadableCheckpoint: a ``pickle.UnpicklingError``, as torch's refusal is: it holds more
            than tensors, plain values and log histories.
        Exception: whatever MMEngine's loader raises.
    """
    try:
        return _STOCK(filename, map_location)
    except pickle.UnpicklingError as refusal:
        try:
            return read_checkpoint(filename, map_location)
        except CheckpointError as error:
            raise UnreadableCheckpoint(
                f'{error}; or set {_NO_WEIGHTS_ONLY}=1, and torch runs what is in it') from refusal


_NO_WEIGHTS_ONLY = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


def register_loader() -> None:
    """Put :func:`load_from_local` in the place of MMEngine's loader for paths without a scheme,
    unless torch is older than 2.6, a user's own loader is registered there or :data:`SWITCH` is
    set. Safe to repeat."""
    if (torch.__version__ >= (2, 6) and os.environ.get(SWITCH, '0') in ('', '0')
            and registered_loader('') is _STOCK):
        CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)
