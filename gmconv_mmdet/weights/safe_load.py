"""Lets MMEngine's training checkpoints pass torch's safe unpickler (``weights_only=True``).

Since torch 2.6 ``torch.load`` refuses every class it was not told of. MMEngine's checkpoints hold
log histories (``HistoryBuffer`` with numpy arrays), so that ``--resume`` and ``tools/test.py`` fail
on them. :func:`allow_mmengine_checkpoints` names those classes to torch; everything else stays
refused.
"""
from __future__ import annotations

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

# A HistoryBuffer pickles its table of statistics, as `getattr(HistoryBuffer, 'mean')` and so on.
_STATISTICS = ('min', 'max', 'current', 'mean')


def _history_buffer_statistic(owner: object, name: str):
    """Stands in for ``builtins.getattr`` while unpickling: knows HistoryBuffer's statistics only.

    With the real one a hostile pickle could walk from any allowed class to ``os.system``.
    """
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise ValueError(f'refused getattr({owner!r}, {name!r}) in a checkpoint: only '
                         f'HistoryBuffer.{{{", ".join(_STATISTICS)}}} may be looked up. The file '
                         'is not a checkpoint written by MMEngine, or it is hostile')
    return getattr(HistoryBuffer, name)


def _dtype_classes() -> list[type]:
    """The classes of numpy's plain dtypes (``numpy.dtypes.Float64DType``, ...)."""
    return [type(np.dtype(code)) for code in '?bhilqBHILQefd']


def allow_mmengine_checkpoints() -> None:
    """Add what MMEngine's checkpoints hold to torch's list of safe globals. Safe to repeat."""
    multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    torch.serialization.add_safe_globals([
        HistoryBuffer,
        np.ndarray,
        np.dtype,
        *_dtype_classes(),
        # Older numpy wrote `numpy.core`, numpy >= 2 writes `numpy._core`: files of both are read.
        *((function, f'numpy.{core}.multiarray.{function.__name__}')
          for function in (multiarray._reconstruct, multiarray.scalar)
          for core in ('core', '_core')),
        (_history_buffer_statistic, 'builtins.getattr'),
    ])
