"""MMEngine's checkpoints load with ``weights_only``; hostile ones stay refused."""
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub

import gmconv_mmdet  # noqa: F401  (registers the safe classes)
from gmconv_mmdet.weights import CheckpointError, read_checkpoint


def test_message_hub_round_trip(tmp_path):
    """What MMEngine writes besides tensors: log histories and runtime information."""
    hub = MessageHub.get_instance('safe_load_test')
    for value in (1.5, 2.5, 6.5):
        hub.update_scalar('train/loss', value)
    hub.update_info('iter', 3)
    hub.update_info('score', np.float64(0.5))
    hub.update_info('flags', np.array([True, False]))
    path = tmp_path / 'checkpoint.pth'
    torch.save(dict(message_hub=hub.state_dict(), state_dict=dict(w=torch.ones(2))), path)
    loaded = torch.load(path, weights_only=True)
    history = loaded['message_hub']['log_scalars']['train/loss']
    assert isinstance(history, HistoryBuffer)
    assert history.mean() == 3.5 and history.statistics('max') == 6.5
    assert loaded['message_hub']['runtime_info']['score'] == 0.5


@pytest.mark.parametrize('code', '?bhilqBHILQefd')
def test_numpy_arrays_and_scalars(tmp_path, code):
    array = np.arange(3).astype(code)
    torch.save(dict(array=array, scalar=array[1]), tmp_path / 'a.pth')
    loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    np.testing.assert_array_equal(loaded['array'], array)
    assert loaded['array'].dtype == array.dtype and loaded['scalar'] == array[1]


class Hostile:
    """Unpickles to a call of ``function(*args)``."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def hostile_payloads(marker):
    """Each would create ``marker`` if it were run."""
    import builtins
    import os
    command = f'touch {marker}'
    yield 'os.system', Hostile(os.system, command)
    yield 'subprocess', Hostile(subprocess.getoutput, command)
    yield 'eval', Hostile(builtins.eval, f'open({str(marker)!r}, "w").close()')
    yield 'open', Hostile(builtins.open, str(marker), 'w')
    yield 'getattr', Hostile(getattr, HistoryBuffer, '__reduce__')
    yield 'getattr of an allowed class', Hostile(getattr, HistoryBuffer, '__init__')
    yield 'getattr of globals', Hostile(getattr, HistoryBuffer.update, '__globals__')
    yield 'in a HistoryBuffer', HistoryBufferWith(Hostile(os.system, command))


class HistoryBufferWith:
    """A HistoryBuffer whose state holds a payload."""

    def __init__(self, payload):
        self.payload = payload

    def __reduce__(self):
        return HistoryBuffer, (), dict(statistics_methods=dict(mean=self.payload))


@pytest.mark.parametrize('kind', ['os.system', 'subprocess', 'eval', 'open', 'getattr',
                                  'getattr of an allowed class', 'getattr of globals',
                                  'in a HistoryBuffer'])
@pytest.mark.parametrize('writer', ['zip', 'legacy'])
def test_hostile_pickles_are_refused(tmp_path, kind, writer):
    marker = tmp_path / 'created'
    payload = dict(hostile_payloads(marker))[kind]
    path = tmp_path / 'hostile.pth'
    torch.save(dict(state_dict=dict(w=torch.ones(1)), message_hub=payload), path,
               _use_new_zipfile_serialization=writer == 'zip')
    with pytest.raises((pickle.UnpicklingError, ValueError)):
        torch.load(path)  # as MMEngine calls it
    assert not marker.exists()
    assert HistoryBuffer._statistics_methods['mean'] is HistoryBuffer.mean


class Forged:
    """Unpickles to ``function(*args)``, given ``state``."""

    def __init__(self, function, args, state):
        self.parts = function, args, state

    def __reduce__(self):
        return self.parts


FLOAT64 = (np.dtype, ('f8', False, True))
RECONSTRUCT = np.zeros(1).__reduce__()[0]
SCALAR = np.float64(1).__reduce__()[0]


@pytest.mark.parametrize('payload', [
    # numpy takes all of these: bytes that count as pointers, numbers that reach beyond their bytes
    Forged(*FLOAT64, (3, '<', None, ('a', ), {'a': (Forged(np.dtype, ('f8', False, True), (
        3, '<', None, None, None, -1, -1, 0)), 0)}, 8, 8, 0)),
    Forged(*FLOAT64, (3, '<', None, None, None, 1, 1, 0)),
    Forged(*FLOAT64, (3, '>', None, None, None, -1, -1, 0)),
    Forged(np.dtype, ('O8', False, True), (3, '|', None, None, None, -1, -1, 63)),
    Forged(np.dtype, ('V8', False, True), (3, '|', None, None, None, 8, 1, 0)),
    Forged(RECONSTRUCT, (np.ndarray, (0, ), b'b'), (1, (4, ), 'f8', False, b'0' * 32)),
    Forged(RECONSTRUCT, (np.ndarray, (0, ), b'b'),
           (1, (10**9, ), np.dtype('f8'), False, b'0' * 32)),
    Hostile(np.ndarray, (10**12, )),
    Hostile(SCALAR, np.dtype('f8'), b'123'),
    Hostile(SCALAR, 'f8', b'12345678'),
])
def test_forged_numpy_objects_are_refused(tmp_path, payload):
    torch.save(dict(state_dict=dict(w=torch.ones(1)), extra=payload), tmp_path / 'forged.pth')
    with pytest.raises(CheckpointError, match='refused|damaged') as error:
        read_checkpoint(tmp_path / 'forged.pth')
    assert len(str(error.value).splitlines()) == 1


def test_arrays_go_on_as_ordinary_ones(tmp_path):
    arrays = dict(history=np.arange(3.), fortran=np.asfortranarray(np.ones((2, 3), 'i4')),
                  empty=np.zeros((0, 3)), none=np.array(3.5))
    torch.save(arrays, tmp_path / 'a.pth')
    loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype and isinstance(loaded[name], np.ndarray)
    assert type(np.append(loaded['history'], 1.0)) is type(loaded['history'] + 1) is np.ndarray
    assert type(loaded['history'].mean()) is np.float64
    # Saved again, they need nothing of this package.
    torch.save(loaded, tmp_path / 'b.pth')
    content = zipfile.ZipFile(tmp_path / 'b.pth').read('b/data.pkl')
    assert b'gmconv_mmdet' not in content and b'numpy' in content


def test_the_payloads_do_harm_when_run(tmp_path):
    """So that the refusals above prove something."""
    marker = tmp_path / 'created'
    for kind in ('os.system', 'eval', 'open'):
        pickle.loads(pickle.dumps(dict(hostile_payloads(marker))[kind]))
        assert marker.exists()
        marker.unlink()


@pytest.mark.slow
def test_without_the_import_mmengine_checkpoints_are_refused(tmp_path):
    """The reason why the module exists; should torch or MMEngine mend it, delete the module."""
    path = tmp_path / 'checkpoint.pth'
    torch.save(dict(buffer=HistoryBuffer([1.0], [1])), path)
    load = f'import torch; torch.load({str(path)!r}, weights_only=True)'
    plain = subprocess.run([sys.executable, '-c', load], capture_output=True, text=True)
    assert plain.returncode == 1 and 'Unsupported global' in plain.stderr
    ours = subprocess.run([sys.executable, '-c', f'import gmconv_mmdet; {load}'],
                          capture_output=True, text=True)
    assert ours.returncode == 0, ours.stderr
