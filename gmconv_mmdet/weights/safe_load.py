"""Lets MMEngine's training checkpoints pass torch's safe unpickler (``weights_only=True``).

Since torch 2.6 ``torch.load`` refuses every class it was not told of. MMEngine's checkpoints hold
log histories (``HistoryBuffer`` with numpy arrays), so that ``--resume`` and ``tools/test.py`` fail
on them. :func:`allow_mmengine_checkpoints` names those classes to torch; everything else stays
refused.

numpy's own functions are not named: ``numpy.dtype.__setstate__`` believes every state, so that a
hostile pickle could make an array whose bytes count as pointers to objects. Stand-ins that know
plain numbers only answer to their names.
"""
from __future__ import annotations

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

# A HistoryBuffer pickles its table of statistics, as `getattr(HistoryBuffer, 'mean')` and so on.
_STATISTICS = ('min', 'max', 'current', 'mean')
_PLAIN_DTYPES = frozenset(np.dtype(code).str[1:] for code in '?bhilqBHILQefd')


class RefusedObject(ValueError):
    """An object in a checkpoint that MMEngine does not write: the file is another program's, or
    hostile. The message says what it is."""


def _history_buffer_statistic(owner: object, name: str):
    """Stands in for ``builtins.getattr`` while unpickling: knows HistoryBuffer's statistics only.

    With the real one a hostile pickle could walk from any allowed class to ``os.system``.
    """
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise RefusedObject(f'getattr({owner!r}, {name!r}), where only HistoryBuffer.'
                            f'{{{", ".join(_STATISTICS)}}} may be looked up')
    return getattr(HistoryBuffer, name)


class _PlainDtype(str):
    """Stands in for ``numpy.dtype`` while unpickling: the name, ``'<f8'``, of a dtype of numbers.
    numpy takes it wherever it takes a dtype."""

    def __new__(cls, name: str, *how_to_copy: bool) -> _PlainDtype:
        if name not in _PLAIN_DTYPES:
            raise RefusedObject(f'the numpy dtype {name!r}, where only plain numbers are read')
        return super().__new__(cls, name)

    def __setstate__(self, state: tuple) -> None:
        version, order, *rest = state
        if order not in ('<', '|', '=') or rest != [None, None, None, -1, -1, 0]:
            raise RefusedObject(f'a numpy dtype with the state {str(state)[:99]}, where only plain '
                                'little-endian numbers are read')


class _PlainArray(np.ndarray):
    """An array while it is unpickled, and after: what one computes from it is an ordinary array
    again, and it is saved as one."""

    def __new__(cls) -> _PlainArray:
        return super().__new__(cls, (0, ), np.int8)  # __setstate__ gives it shape and content

    def __setstate__(self, state: tuple) -> None:
        version, shape, dtype, fortran, content = state
        if type(dtype) is not _PlainDtype:
            raise RefusedObject('a numpy array without a plain dtype')
        super().__setstate__((version, shape, np.dtype(dtype), fortran, content))

    def __array_wrap__(self, result: np.ndarray, context=None, return_scalar: bool = False):
        plain = result.view(np.ndarray)
        return plain if plain.ndim else plain[()]

    def __reduce_ex__(self, protocol: int) -> tuple:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def _empty_array(kind: type, shape: tuple, code: bytes) -> _PlainArray:
    """Stands in for ``numpy._core.multiarray._reconstruct``, which every array begins with."""
    return _PlainArray()


def _scalar(dtype: _PlainDtype, content: bytes) -> np.generic:
    """Stands in for ``numpy._core.multiarray.scalar``."""
    if type(dtype) is not _PlainDtype:
        raise RefusedObject('a numpy number without a plain dtype')
    return np.frombuffer(content, np.dtype(dtype), 1)[0]


def _no_bytes() -> bytes:
    """Stands in for ``builtins.bytes``, as which an empty array's content is pickled."""
    return b''


def allow_mmengine_checkpoints() -> None:
    """Add what MMEngine's checkpoints hold to torch's list of safe globals. Safe to repeat."""
    torch.serialization.add_safe_globals([
        HistoryBuffer,
        _PlainDtype,
        _PlainArray,
        (_PlainArray, 'numpy.ndarray'),
        (_PlainDtype, 'numpy.dtype'),
        # Older numpy wrote `numpy.core`, numpy >= 2 writes `numpy._core`: files of both are read.
        *((function, f'numpy.{core}.multiarray.{name}')
          for function, name in ((_empty_array, '_reconstruct'), (_scalar, 'scalar'))
          for core in ('core', '_core')),
        (_no_bytes, 'builtins.bytes'),
        (_history_buffer_statistic, 'builtins.getattr'),
    ])
