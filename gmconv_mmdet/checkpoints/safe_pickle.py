"""An unpickler for checkpoints: tensors, numbers, text, containers and MMEngine's log histories.

It builds these itself and calls nothing that a file names, so that no file can run code. It is ours
because torch's own safe unpickler has a list of allowed classes that is global, differs between
versions (1.13 to 2.3 can't be told of MMEngine's classes at all), and hands a file's sizes and
offsets to C++ code that older versions don't check.

Only opcodes of pickle's binary protocols are known. A class or function in the file becomes a
:class:`_Maker`, and only those can be called; states are checked and given only to objects made
here; only lists, dictionaries and sets grow.
"""
from __future__ import annotations

import pickle
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Dict

import torch
from torch import Tensor

try:
    import numpy as np
except ImportError:  # then find_class stops at the first object of numpy's
    np = None  # type: ignore[assignment]

_HISTORY = 'mmengine.logging.history_buffer.HistoryBuffer'
# A HistoryBuffer pickles its table of statistics, as `getattr(HistoryBuffer, 'mean')` and so on.
_STATISTICS = ('min', 'max', 'current', 'mean')
_HISTORY_STATE = {'max_length', '_log_history', '_count_history', 'statistics_methods'}
_PLAIN_DTYPES = frozenset('b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8'.split())
_PLAIN_KEYS = (str, int, float, bool, bytes, type(None))
_STORAGES = {
    'Double': torch.float64, 'Float': torch.float32, 'Half': torch.float16,
    'BFloat16': torch.bfloat16, 'Long': torch.int64, 'Int': torch.int32, 'Short': torch.int16,
    'Char': torch.int8, 'Byte': torch.uint8, 'Bool': torch.bool, 'ComplexFloat': torch.complex64,
    'ComplexDouble': torch.complex128,
}
_UNUSABLE = {
    'torch._utils._rebuild_qtensor': 'a quantized tensor',
    'torch._utils._rebuild_sparse_tensor': 'a sparse tensor',
    'torch._utils._rebuild_sparse_csr_tensor': 'a sparse tensor',
    'torch._utils._rebuild_nested_tensor': 'a nested tensor',
    'torch._utils._rebuild_meta_tensor_no_storage': 'a tensor without values (meta)',
}


class RefusedObject(ValueError):
    """An object in a checkpoint that is not read; the message says what it is."""


class UnusableTensor(RefusedObject):
    """A tensor that no network here can load."""


class NumpyMissing(RefusedObject):
    """An array or number of numpy's, and there is no numpy to read it."""


@dataclass(frozen=True)
class _Maker:
    """Stands in for a class or function that a file names: what is called in its place."""
    name: str
    call: Callable[..., Any]


def load(file: BinaryIO, storage: Callable[..., Tensor] | None = None) -> Any:
    """Read one pickle.

    Args:
        file: at its start; afterwards behind its end.
        storage: ``storage(*what torch.save noted) -> Tensor``, the flat tensor of a storage.

    Raises:
        RefusedObject: the pickle holds something else than the above.
        Exception: of any kind, where it is damaged.
    """
    return _Unpickler(file, storage).load()


class _Opcodes(Dict[int, Any]):

    def __missing__(self, opcode: int) -> None:
        raise pickle.UnpicklingError(f'unknown opcode {opcode}')


class _Unpickler(pickle._Unpickler):  # the one in Python, whose opcodes can be replaced

    stack: list[Any]
    append: Callable[[object], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: BinaryIO, storage: Callable[..., Tensor] | None) -> None:
        super().__init__(file, encoding='utf-8')
        self.storage = storage

    def persistent_load(self, noted: object) -> Tensor:
        if self.storage is None or type(noted) is not tuple or noted[:1] != ('storage', ):
            raise RefusedObject('a reference to something that is no tensor')
        return self.storage(*noted[1:])

    def find_class(self, module: str, name: str) -> object:
        full = f'{"builtins" if module == "__builtin__" else module}.{name}'  # Python 2's name
        if full in _UNUSABLE:
            raise UnusableTensor(_UNUSABLE[full])
        if np is None and full.startswith(('numpy.', _HISTORY)):
            raise NumpyMissing('arrays or numbers of numpy')
        if full.startswith(f'{_HISTORY}.'):  # pickle's protocol 4
            return _statistic(_MAKERS[_HISTORY], name.partition('.')[2])
        found = _MAKERS.get(full, _VALUES.get(full))
        if found is None:
            raise RefusedObject(full)
        return found

    def call(self) -> None:
        arguments, maker = self.stack.pop(), self.stack.pop()
        if type(maker) is not _Maker or type(arguments) is not tuple:
            raise RefusedObject(f'a call of {_what(maker)}')
        self.append(maker.call(*arguments))

    def build(self) -> None:
        state = self.stack.pop()
        built = self.stack[-1]
        if np and type(built) is np.ndarray:
            _fill_array(built, state)
        elif np and isinstance(built, np.dtype):
            _check_dtype_state(state)
        elif type(built) is OrderedDict:
            if type(state) is dict and '_metadata' in state:  # of nn.Module.state_dict()
                vars(built)['_metadata'] = state['_metadata']
        elif f'{type(built).__module__}.{type(built).__name__}' == _HISTORY:
            _fill_history(built, state)
        else:
            raise RefusedObject(f'a state for {_what(built)}')

    def set_items(self) -> None:
        items = self.pop_mark()
        self._set(items)

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _set(self, items: list[Any]) -> None:
        if type(self.stack[-1]) not in (dict, OrderedDict):
            raise RefusedObject(f'items of {_what(self.stack[-1])}')
        self.stack[-1].update(zip(map(_plain_key, items[::2]), items[1::2]))

    def extend(self) -> None:
        items = self.pop_mark()
        self._extend(items)

    def append_one(self) -> None:
        self._extend([self.stack.pop()])

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise RefusedObject(f'entries of {_what(self.stack[-1])}')
        self.stack[-1].extend(items)

    def add_items(self) -> None:
        items = self.pop_mark()
        if type(self.stack[-1]) is not set:
            raise RefusedObject(f'members of {_what(self.stack[-1])}')
        self.stack[-1].update(map(_plain_key, items))

    _AS_IN_PYTHON = (
        'PROTO FRAME STOP MARK POP POP_MARK DUP MEMOIZE BINGET LONG_BINGET BINPUT LONG_BINPUT '
        'NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT '
        'SHORT_BINSTRING BINSTRING SHORT_BINBYTES BINBYTES BINBYTES8 '
        'SHORT_BINUNICODE BINUNICODE BINUNICODE8 TUPLE TUPLE1 TUPLE2 TUPLE3 '
        'EMPTY_TUPLE EMPTY_LIST EMPTY_DICT EMPTY_SET GLOBAL STACK_GLOBAL BINPERSID').split()
    dispatch = _Opcodes({
        **{getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
           for name in _AS_IN_PYTHON},
        pickle.REDUCE[0]: call, pickle.NEWOBJ[0]: call, pickle.BUILD[0]: build,
        pickle.SETITEM[0]: set_item, pickle.SETITEMS[0]: set_items,
        pickle.APPEND[0]: append_one, pickle.APPENDS[0]: extend, pickle.ADDITEMS[0]: add_items,
    })


def _what(thing: object) -> str:
    known = type(thing) is not _Maker and not callable(thing)
    return f'a {type(thing).__name__}' if known else 'a class or function'


def _plain_key(key: object) -> object:
    # Hashing a tuple within a tuple within ... overflows the stack of the process.
    if type(key) in _PLAIN_KEYS or type(key) is tuple and all(
            type(part) in _PLAIN_KEYS for part in key):
        return key
    raise RefusedObject(f'{_what(key)} as the key of an entry')


# Tensors

def _tensor(flat: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...],
            requires_grad: bool = False, hooks: object = None, metadata: object = None) -> Tensor:
    """Stands in for ``torch._utils._rebuild_tensor_v2``."""
    if not isinstance(flat, Tensor) or metadata:
        raise RefusedObject('a tensor of another kind than torch.save writes of weights')
    tensor = flat.as_strided(size, stride, offset)  # which checks that all lies in the storage
    return tensor.requires_grad_() if requires_grad else tensor


def _tensor_of_bytes(flat: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...],
                     requires_grad: bool, hooks: object, dtype: torch.dtype,
                     metadata: object = None) -> Tensor:
    """Stands in for ``torch._utils._rebuild_tensor_v3``."""
    return _tensor(flat.view(dtype), offset, size, stride, requires_grad, hooks, metadata)


def _parameter(data: Tensor, requires_grad: bool, *hooks_and_state: object) -> torch.nn.Parameter:
    if not isinstance(data, Tensor):
        raise RefusedObject('a parameter without a tensor')
    return torch.nn.Parameter(data, bool(requires_grad))


def _tensor_with_attributes(maker: _Maker, kind: object, arguments: tuple[Any, ...],
                            attributes: object) -> Tensor:
    """Stands in for ``torch._tensor._rebuild_from_type_v2``; attributes are left out."""
    if maker not in _TENSOR_MAKERS.values():
        raise RefusedObject('a tensor of another kind than torch.save writes of weights')
    tensor: Tensor = maker.call(*arguments)
    return tensor


# numpy. Its own `dtype.__setstate__` and `_reconstruct` believe a file: one could make an array
# whose bytes count as pointers.

def _dtype(name: str, *how_to_copy: bool) -> np.dtype[Any]:
    if type(name) is not str or name not in _PLAIN_DTYPES:
        shown = repr(name[:20]) if type(name) is str else 'without a name'
        raise RefusedObject(f'the numpy dtype {shown} (only plain numbers are read)')
    return np.dtype(name)


def _check_dtype_state(state: object) -> None:
    # (version, byte order, nothing more); the dtype itself is there already
    if type(state) is not tuple or state[1:2] not in (('<', ), ('|', ), ('=', )) or state[2:] != (
            None, None, None, -1, -1, 0):
        raise RefusedObject('a numpy dtype with a state of its own (only plain little-endian '
                            'numbers are read)')


def _empty_array(kind: object, shape: object, code: object) -> np.ndarray[Any, Any]:
    """Stands in for ``numpy._core.multiarray._reconstruct``, which every array begins with."""
    return np.empty(0, np.int8)


def _fill_array(array: np.ndarray[Any, Any], state: tuple[Any, ...]) -> None:
    version, shape, dtype, fortran, content = state
    if not isinstance(dtype, np.dtype) or type(content) is not bytes:
        raise RefusedObject('a numpy array without a plain dtype')
    count = 1
    for length in shape:
        if type(length) is not int or length < 0:
            raise RefusedObject('a numpy array of an impossible shape')
        count *= length
    if count * dtype.itemsize != len(content):
        raise RefusedObject('a numpy array of another size than its content')
    array.__setstate__((1, tuple(shape), dtype, bool(fortran), content))  # type: ignore[arg-type]


def _scalar(dtype: np.dtype[Any], content: bytes) -> np.generic[Any]:
    """Stands in for ``numpy._core.multiarray.scalar``."""
    if not isinstance(dtype, np.dtype) or type(content) is not bytes or len(
            content) != dtype.itemsize:
        raise RefusedObject('a numpy number without a plain dtype')
    number: np.generic[Any] = np.frombuffer(content, dtype, 1)[0]
    return number


# MMEngine's log histories

def _history() -> Any:
    # Where MMEngine is loaded, its own class; it is what reads such files. Else something that
    # holds the same.
    mmengine = sys.modules.get('mmengine.logging')
    kind = mmengine.HistoryBuffer if mmengine else _History
    return kind.__new__(kind)


class _History:
    """MMEngine's ``HistoryBuffer`` without what it can compute."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


for _name in _STATISTICS:
    setattr(_History, _name, lambda self: None)


def _statistic(owner: object, name: str) -> object:
    """Stands in for ``builtins.getattr``, which could walk from any class to ``os.system``."""
    if owner is not _MAKERS[_HISTORY] or name not in _STATISTICS:
        raise RefusedObject('getattr of something else than HistoryBuffer.'
                            f'{{{", ".join(_STATISTICS)}}}')
    return getattr(type(_history()), name)


def _fill_history(history: Any, state: Any) -> None:
    statistics = state.get('statistics_methods', {}) if type(state) is dict else None
    if (type(statistics) is not dict or not set(state) <= _HISTORY_STATE
            or type(state.get('max_length')) is not int
            or any(type(state.get(name)) is not np.ndarray
                   for name in ('_log_history', '_count_history'))
            or any(function is not getattr(type(history), str(name), None)
                   for name, function in statistics.items() if name in _STATISTICS)
            or not set(statistics) <= set(_STATISTICS)):
        raise RefusedObject('a HistoryBuffer with other entries than MMEngine\'s')
    history.__setstate__({**state, 'statistics_methods': {}})


# What a file may name

def _mapping(kind: type) -> Callable[..., object]:
    def make(entries: Any = ()) -> object:
        if type(entries) is dict:
            return kind(entries)
        return kind((_plain_key(key), value) for key, value in entries)
    return make


def _counter(counts: dict[Any, int]) -> Counter[Any]:
    if type(counts) is not dict:
        raise RefusedObject('a Counter without counts')
    return Counter(counts)


_TENSOR_CALLS: dict[str, Callable[..., Any]] = {
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_tensor_v3': _tensor_of_bytes,
    'torch._utils._rebuild_parameter': _parameter,
    'torch._utils._rebuild_parameter_with_state': _parameter,
}
_CALLS: dict[str, Callable[..., Any]] = {
    'torch._tensor._rebuild_from_type_v2': _tensor_with_attributes,
    'torch.Size': lambda sizes: torch.Size(sizes),
    'torch.device': lambda *name: torch.device(*name),
    'collections.OrderedDict': _mapping(OrderedDict),
    'collections.Counter': _counter,
    '_codecs.encode': lambda text, encoding: text.encode('latin1'),  # how bytes are pickled
    'numpy.dtype': _dtype,
    _HISTORY: _history,
    'builtins.set': lambda members=(): set(map(_plain_key, members)),
    'builtins.bytes': lambda: b'',
    'builtins.getattr': _statistic,
    # Older numpy wrote `numpy.core`, numpy >= 2 `numpy._core`.
    **{f'numpy.{core}.multiarray.{name}': call for core in ('core', '_core') for name, call in (
        ('_reconstruct', _empty_array), ('scalar', _scalar))},
}
_TENSOR_MAKERS = {name: _Maker(name, call) for name, call in _TENSOR_CALLS.items()}
_MAKERS = {**_TENSOR_MAKERS, **{name: _Maker(name, call) for name, call in _CALLS.items()}}
_VALUES = {
    'numpy.ndarray': 'numpy.ndarray',  # an argument of _reconstruct
    'torch.Tensor': 'torch.Tensor',  # of _rebuild_from_type_v2
    'torch.nn.parameter.Parameter': 'torch.nn.parameter.Parameter',
    **{f'torch.{name}': dtype for name, dtype in vars(torch).items()
       if isinstance(dtype, torch.dtype)},
    **{f'{module}.{kind}Storage': dtype for module in ('torch', 'torch.cuda')
       for kind, dtype in _STORAGES.items()},
    **{f'torch.storage.{name}': torch.uint8 for name in ('UntypedStorage', '_UntypedStorage')},
}
