"""Checkpoints of MMEngine and torch are read with the types they were saved with; hostile ones are
refused, at every torch version and whatever its global settings are."""
import os
import pickle
import struct
import subprocess
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub

import gmconv_mmdet  # noqa: F401  (which must leave torch alone)
from gmconv_mmdet.checkpoints import CheckpointError, UnreadableCheckpoint, read_checkpoint, safe_pickle

ZIP = pytest.mark.parametrize('zip_format', [True, False], ids=['zip', 'old format'])


def saved(folder, content, zip_format=True, protocol=2):
    torch.save(content, folder / 'x.pth', pickle_protocol=protocol,
               _use_new_zipfile_serialization=zip_format)
    return folder / 'x.pth'


def programmed(folder, opcodes: bytes, zip_format=True):
    """A checkpoint with a pickle that no pickler writes."""
    program = b'\x80\x02' + opcodes + b'.'
    path = folder / 'x.pth'
    if zip_format:
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('x/data.pkl', program)
    else:
        path.write_bytes(b''.join([*(pickle.dumps(part, 2) for part in (
            0x1950a86a20f9469cfc6c, 1001, dict(little_endian=True))), program, pickle.dumps([])]))
    return path


def training_checkpoint():
    hub = MessageHub.get_instance('safe_pickle_test')
    for value in (1.5, 2.5, 6.5):
        hub.update_scalar('train/loss', value)
    hub.update_info('iter', 3)
    hub.update_info('score', np.float64(0.5))
    hub.update_info('flags', np.array([True, False]))
    norm = torch.nn.BatchNorm2d(3)
    sgd = torch.optim.SGD(norm.parameters(), 0.1, momentum=0.9)
    return dict(message_hub=hub.state_dict(), state_dict=norm.state_dict(),
                optimizer=sgd.state_dict(), meta=dict(epoch=1, cfg='model = 1', seed=None),
                param_schedulers=[dict(milestones=Counter([8, 11]))])


@ZIP
@pytest.mark.parametrize('protocol', [2, 4])
def test_a_training_checkpoint_of_mmengine(tmp_path, zip_format, protocol):
    written = training_checkpoint()
    read = read_checkpoint(saved(tmp_path, written, zip_format, protocol))
    history = read['message_hub']['log_scalars']['train/loss']
    assert type(history) is HistoryBuffer
    assert history.mean() == np.mean([1.5, 2.5, 6.5]) and history.statistics('max') == 6.5
    assert type(history._log_history) is np.ndarray
    assert type(read['message_hub']['runtime_info']['score']) is np.float64
    assert read['state_dict']._metadata == written['state_dict']._metadata
    assert type(read['state_dict']) is OrderedDict
    assert read['param_schedulers'] == written['param_schedulers']
    assert read['optimizer'] == written['optimizer'] and read['meta'] == written['meta']


@ZIP
@pytest.mark.parametrize('protocol', [2, 4])
def test_types_and_values_are_those_that_pickle_gives(tmp_path, zip_format, protocol):
    base = torch.randn(10, 10)
    path = saved(tmp_path, dict(
        view=base[2:5, ::2], base=base, empty=torch.zeros(0, 3), scalar=torch.tensor(2),
        flags=torch.tensor([True, False]), bf16=torch.ones(3, dtype=torch.bfloat16),
        half=torch.ones(3).half(), bytes=torch.arange(3, dtype=torch.uint8),
        complex=torch.ones(2, dtype=torch.complex64), leaf=torch.ones(2, requires_grad=True),
        parameter=torch.nn.Parameter(torch.ones(2)), device=torch.device('cpu'),
        dtype=torch.float16, size=torch.Size([1, 2]), numpy_dtype=np.dtype('f4'),
        array=np.arange(3.), fortran=np.asfortranarray(np.ones((2, 3), 'i4')),
        no_rows=np.zeros((0, 3)), no_axes=np.array(3.5), text='\u00fc', raw=b'\xff', none=None,
        set={1, 2}, large=2**70, counter=Counter('aab'), nested=[(1, [dict(a=())])]),
        zip_format, protocol)
    read = read_checkpoint(path)
    expected = torch.load(str(path), weights_only=False)
    assert list(read) == list(expected)
    for name, value in expected.items():
        assert type(read[name]) is type(value), name
        if isinstance(value, (torch.Tensor, np.ndarray)):
            assert read[name].dtype == value.dtype and read[name].shape == value.shape, name
            assert (read[name] == value).all(), name
        else:
            assert read[name] == value, name
    assert read['leaf'].requires_grad and read['parameter'].requires_grad
    assert read['fortran'].flags.f_contiguous
    assert read['view'].data_ptr() == read['base'][2:5].data_ptr()  # one storage, as saved


@pytest.mark.parametrize('code', '?bhilqBHILQefd')
def test_numpy_arrays_and_scalars(tmp_path, code):
    array = np.arange(3).astype(code)
    read = read_checkpoint(saved(tmp_path, dict(array=array, scalar=array[1])))
    np.testing.assert_array_equal(read['array'], array)
    assert type(read['array']) is np.ndarray and read['array'].dtype == array.dtype
    # np.longlong is pickled as np.int64
    assert read['scalar'] == array[1] and type(read['scalar']) is np.dtype(array.dtype.str).type


def test_numpys_older_module_names(tmp_path):
    path = saved(tmp_path, dict(array=np.arange(3), scalar=np.float64(2)))
    with zipfile.ZipFile(path) as archive:
        content = archive.read('x/data.pkl')
    for old, new in ((b'numpy._core.', b'numpy.core.'), (b'numpy.core.', b'numpy._core.')):
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('x/data.pkl', content.replace(old, new))
        assert read_checkpoint(path)['scalar'] == 2


def test_without_numpy(tmp_path, monkeypatch):
    monkeypatch.setattr(safe_pickle, 'np', None)
    plain = dict(w=torch.randn(3), empty=torch.zeros(0), set={1})
    for zip_format in (True, False):
        read = read_checkpoint(saved(tmp_path, plain, zip_format))
        assert torch.equal(read['w'], plain['w']) and read['set'] == {1}
    for content in (dict(a=np.zeros(3)), dict(a=np.float64(2)), training_checkpoint()):
        with pytest.raises(UnreadableCheckpoint, match='numpy is not installed: pip install numpy'):
            read_checkpoint(saved(tmp_path, content))
    with pytest.raises(UnreadableCheckpoint, match='was refused: it holds posix.system'):
        read_checkpoint(saved(tmp_path, dict(a=Hostile(os.system, 'true'))))


class Hostile:
    """Unpickles to a call of ``function(*args)``."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class Forged:
    """Unpickles to ``function(*args)``, given ``state``."""

    def __init__(self, function, args, state):
        self.parts = function, args, state

    def __reduce__(self):
        return self.parts


def hostile_payloads(marker):
    """Each would create ``marker`` if it were run."""
    import builtins
    command = f'touch {marker}'
    system = Hostile(os.system, command)
    yield 'os.system', system
    yield 'subprocess', Hostile(subprocess.getoutput, command)
    yield 'eval', Hostile(builtins.eval, f'open({str(marker)!r}, "w").close()')
    yield 'open', Hostile(builtins.open, str(marker), 'w')
    yield 'getattr', Hostile(getattr, HistoryBuffer, '__reduce__')
    yield 'getattr of an allowed class', Hostile(getattr, HistoryBuffer, '__init__')
    yield 'getattr of globals', Hostile(getattr, HistoryBuffer.update, '__globals__')
    yield 'in a HistoryBuffer', Forged(HistoryBuffer, (), dict(
        max_length=1, _log_history=np.ones(1), _count_history=np.ones(1),
        statistics_methods=dict(mean=system)))


@ZIP
@pytest.mark.parametrize('kind', ['os.system', 'subprocess', 'eval', 'open', 'getattr',
                                  'getattr of an allowed class', 'getattr of globals',
                                  'in a HistoryBuffer'])
def test_hostile_pickles_are_refused(tmp_path, kind, zip_format):
    marker = tmp_path / 'created'
    path = saved(tmp_path, dict(state_dict=dict(w=torch.ones(1)),
                                message_hub=dict(hostile_payloads(marker))[kind]), zip_format)
    with pytest.raises(UnreadableCheckpoint, match='was refused: it holds') as error:
        read_checkpoint(path)
    assert isinstance(error.value, pickle.UnpicklingError)
    assert isinstance(error.value, CheckpointError) and len(str(error.value).splitlines()) == 1
    assert not marker.exists()


HISTORY = b'cmmengine.logging.history_buffer\nHistoryBuffer\n'
MEAN = b'cbuiltins\ngetattr\n' + HISTORY + b'U\x04mean\x86R'
DEFAULTS = b'}U\x0c__defaults__K\x01\x85s'
NEST = b')' + b'\x85' * 200_000  # a tuple in a tuple in ...


@pytest.mark.slow
@ZIP
@pytest.mark.parametrize('opcodes, says', [
    (MEAN + DEFAULTS + b'b', 'a state for a class or function'),
    (MEAN + b'N' + DEFAULTS + b'\x86b', 'a state for a class or function'),
    (HISTORY + DEFAULTS + b'b', 'a state for a class or function'),
    (b'ctorch._utils\n_rebuild_tensor_v2\n' + DEFAULTS + b'b', 'a state for a class or function'),
    (b'cbuiltins\ngetattr\n' + DEFAULTS + b'b', 'a state for a class or function'),
    (b'cnumpy\nndarray\n' + DEFAULTS + b'b', 'a state for a str'),
    (MEAN + b')R', 'a call of a class or function'),
    (MEAN + b')\x81', 'a call of a class or function'),
    (HISTORY + b'U\x01aK\x01s', 'items of a class or function'),
    (b']U\x01aK\x01s', 'items of a list'),
    (HISTORY + b'K\x01a', 'entries of a class or function'),
    (HISTORY + b')R}U\x04dataK\x01sb', 'a HistoryBuffer with other entries'),
    (HISTORY + b')R}U\x06updateK\x01sb', 'a HistoryBuffer with other entries'),
    (b'}' + NEST + b'K\x01s', 'a tuple as the key'),
    (b'}' + HISTORY + b'K\x01s', 'a class or function as the key'),
    (b'U\x01xQ', 'a reference to something'),
    (b'(cos\nsystem\noU\x04true.', 'os.system'),
])
def test_no_state_and_no_items_for_what_is_not_plain(tmp_path, opcodes, says, zip_format):
    mean = HistoryBuffer.mean
    with pytest.raises(UnreadableCheckpoint, match=f'was refused: it holds {says}'):
        read_checkpoint(programmed(tmp_path, opcodes, zip_format))
    assert mean.__defaults__ == (None, ) and HistoryBuffer._statistics_methods.get(
        'mean', mean) is mean


@ZIP
@pytest.mark.parametrize('opcodes', [
    b'(U\x04trueios\nsystem\n', b'\x82\x01', b'I1\n', b'\x96' + struct.pack('<Q', 2**60),
    b'}U\x01a', b'0', b'\x00', b'h\x07', b'\x8a\xff' + b'\x7f' * 3, b'ctorch\nSize\nN\x85R'])
def test_damaged_and_unknown_opcodes(tmp_path, opcodes, zip_format):
    with pytest.raises(UnreadableCheckpoint, match='damaged|holds a'):
        read_checkpoint(programmed(tmp_path, opcodes, zip_format))


def test_attributes_of_a_state_dict_shadow_nothing(tmp_path):
    content = OrderedDict(w=torch.ones(1))
    content.update = 3
    content._metadata = dict(version=1)
    read = read_checkpoint(saved(tmp_path, content))
    assert callable(read.update) and list(read) == ['w'] and read._metadata == dict(version=1)


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
    Forged(RECONSTRUCT, (np.ndarray, (0, ), b'b'),
           (1, (-1, -4), np.dtype('f8'), False, b'0' * 32)),
    Hostile(np.ndarray, (10**12, )),
    Hostile(SCALAR, np.dtype('f8'), b'123'),
    Hostile(SCALAR, 'f8', b'12345678'),
])
def test_forged_numpy_objects_are_refused(tmp_path, payload):
    with pytest.raises(CheckpointError, match='refused|damaged') as error:
        read_checkpoint(saved(tmp_path, dict(state_dict=dict(w=torch.ones(1)), extra=payload)))
    assert len(str(error.value).splitlines()) == 1


@ZIP
@pytest.mark.parametrize('offset, size, stride', [
    (0, (4, ), (2, )), (4, (1, ), (1, )), (0, (2**40, ), (1, )), (-1, (1, ), (1, )),
    (0, (-1, ), (1, )), (0, (2, ), (-1, ))])
def test_tensors_beyond_their_storage_are_refused(tmp_path, offset, size, stride, zip_format):

    class Beyond:

        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (
                torch.ones(4).storage(), offset, size, stride, False, OrderedDict())

    with pytest.raises(UnreadableCheckpoint, match='damaged'):
        read_checkpoint(saved(tmp_path, dict(w=Beyond()), zip_format))


def test_devices(tmp_path):
    path = saved(tmp_path, dict(w=torch.ones(2), same=torch.ones(2)))
    for place in (None, 'cpu', torch.device('cpu'), dict(cpu='cpu'), lambda storage, _: storage,
                  lambda storage, location: None):
        assert read_checkpoint(path, place)['w'].device.type == 'cpu'
    assert read_checkpoint(path, 'meta')['w'].is_meta
    if not torch.cuda.is_available():
        with pytest.raises(CheckpointError, match="holds tensors of the device cuda:3, .*'cpu'"):
            read_checkpoint(path, 'cuda:3')


@pytest.mark.parametrize('variable', ['TORCH_FORCE_WEIGHTS_ONLY_LOAD',
                                      'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'])
def test_torchs_variables_make_no_difference(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, '1')
    assert read_checkpoint(saved(tmp_path, training_checkpoint()))['meta']['epoch'] == 1
    marker = tmp_path / 'created'
    with pytest.raises(UnreadableCheckpoint, match='was refused'):
        read_checkpoint(saved(tmp_path, dict(x=Hostile(os.mkdir, str(marker)))))
    assert not marker.exists()


@pytest.mark.skipif(not hasattr(torch.serialization, 'get_safe_globals'),
                    reason='torch before 2.4 has no list of safe globals')
def test_torchs_list_is_left_alone(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    named = [entry[0] if isinstance(entry, tuple) else entry for entry in before]
    assert all(entry.__module__.split('.')[0] == 'torch' for entry in named)  # its own
    read_checkpoint(saved(tmp_path, training_checkpoint()))
    with pytest.raises(CheckpointError):
        read_checkpoint(saved(tmp_path, dict(x=Hostile(os.mkdir, 'x'))))
    assert set(torch.serialization.get_safe_globals()) == before


def test_the_payloads_do_harm_when_run(tmp_path):
    """So that the refusals above prove something."""
    marker = tmp_path / 'created'
    for kind in ('os.system', 'eval', 'open'):
        pickle.loads(pickle.dumps(dict(hostile_payloads(marker))[kind]))
        assert marker.exists()
        marker.unlink()
