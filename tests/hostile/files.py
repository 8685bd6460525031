"""A small GMResNet, and files that began as its checkpoint, or not: strategies of Hypothesis."""
from __future__ import annotations

import io
import math
import zipfile

import numpy as np
import torch
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer
from safetensors.torch import save as save_safetensors

from gmconv_mmdet.backbones import GMResNet

SHORT = dict(num_stages=1, strides=(1, ), dilations=(1, ), out_indices=(0, ), gm_stages=(True, ),
             base_channels=4, stem_channels=4)


def network() -> GMResNet:
    """Stem and one stage of a narrow ResNet-18: every kind of tensor, in milliseconds."""
    torch.manual_seed(0)
    return GMResNet(18, **SHORT)


def _torch_bytes(content: object, zip_format: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zip_format)
    return buffer.getvalue()


STATE = network().state_dict()
TRAINING = dict(
    meta=dict(epoch=1, iter=3, cfg="model = dict(type='GMResNet', sigma_pattern='sigma_ratio')"),
    state_dict={f'backbone.{name}': tensor for name, tensor in STATE.items()},
    message_hub=dict(log_scalars={'train/loss': HistoryBuffer([1.0, 2.0], [1, 1])},
                     runtime_info=dict(score=np.float64(0.5), flags=np.array([True, False]))),
    optimizer=dict(state={0: dict(step=torch.tensor(3.0))}, param_groups=[dict(lr=0.1)]))
FILES = {'.pth': [_torch_bytes(STATE), _torch_bytes(TRAINING), _torch_bytes(TRAINING, False)],
         '.safetensors': [save_safetensors(STATE, metadata=dict(depth='18'))]}

# Globals that torch or this package lets through, and some that must be refused.
GLOBALS = ['numpy dtype', 'numpy ndarray', 'numpy._core.multiarray _reconstruct',
           'numpy._core.multiarray scalar', 'numpy.core.multiarray scalar', 'builtins getattr',
           'builtins bytes', 'builtins bytearray', 'builtins eval', 'builtins set', 'os system',
           'mmengine.logging.history_buffer HistoryBuffer', 'collections OrderedDict',
           'collections Counter', '_codecs encode', 'torch Tensor', 'torch FloatStorage',
           'torch Size', 'torch device', 'torch.nn.parameter Parameter',
           'torch._utils _rebuild_tensor_v2', 'torch._utils _rebuild_parameter',
           'torch._utils _rebuild_meta_tensor_no_storage', 'torch._utils _rebuild_sparse_tensor',
           'torch._tensor _rebuild_from_type_v2', 'torch._utils _rebuild_wrapper_subclass',
           'gmconv_mmdet.checkpoints.safe_pickle _Maker',
           'mmengine.logging.history_buffer HistoryBuffer.mean']


@st.composite
def damaged_bytes(draw, content: bytes) -> bytes:
    """Some bytes changed, cut out, doubled or put in."""
    damaged = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(damaged) - 1)))
        kind = draw(st.sampled_from(['set', 'flip', 'cut', 'end', 'double', 'insert']))
        until = at + draw(st.integers(1, 64))
        if not damaged:
            break
        if kind == 'set':
            damaged[at] = draw(st.integers(0, 255))
        elif kind == 'flip':
            damaged[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == 'cut':
            del damaged[at:until]
        elif kind == 'end':
            del damaged[at:]
        elif kind == 'double':
            damaged[at:at] = damaged[at:until]
        else:
            damaged[at:at] = draw(st.binary(max_size=16))
    return bytes(damaged)


def _repacked(content: bytes, change) -> bytes:
    """A torch file whose pickle is ``change``d, all checksums right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, 'w') as new:
        for entry in old.infolist():
            inner = old.read(entry)
            new.writestr(entry.filename,
                         change(inner) if entry.filename.endswith('data.pkl') else inner)
    return buffer.getvalue()


OPCODES = [b'(', b'.', b'0', b'2', b'1', b'N', b'R', b'b', b'e', b'a', b']', b'}', b')', b't', b'u',
           b's', b'Q', b'\x81', b'\x85', b'\x86', b'\x87', b'\x88', b'\x89', b'\x8f', b'd', b'l']


@st.composite
def pickles(draw) -> bytes:
    """Random programs for the unpickler, most of them of the opcodes that it knows."""
    parts = [b'\x80\x02']
    for _ in range(draw(st.integers(1, 40))):
        kind = draw(st.sampled_from(['op', 'op', 'op', 'global', 'int', 'text', 'put', 'get',
                                     'long', 'float', 'bytes']))
        if kind == 'op':
            parts.append(draw(st.sampled_from(OPCODES)))
        elif kind == 'global':
            module, name = draw(st.sampled_from(GLOBALS)).split()
            parts.append(f'c{module}\n{name}\n'.encode())
        elif kind == 'int':
            parts.append(b'J' + draw(st.integers(-2**31, 2**31 - 1)).to_bytes(4, 'little',
                                                                              signed=True))
        elif kind == 'text':
            text = draw(st.sampled_from(['f8', 'mean', 'storage', '<', 'cpu', '0']) |
                        st.text(max_size=5)).encode('utf-8', 'surrogatepass')
            parts.append(b'X' + len(text).to_bytes(4, 'little') + text)
        elif kind in ('put', 'get'):
            parts.append((b'q' if kind == 'put' else b'h') + bytes([draw(st.integers(0, 3))]))
        elif kind == 'long':
            number = draw(st.binary(max_size=9))
            parts.append(b'\x8a' + bytes([len(number)]) + number)
        elif kind == 'float':
            parts.append(b'G' + draw(st.binary(min_size=8, max_size=8)))
        else:
            content = draw(st.binary(max_size=9))
            parts.append(b'U' + bytes([len(content)]) + content)
    return b''.join([*parts, b'.'])


@st.composite
def files(draw) -> tuple[str, bytes]:
    """Suffix and content of a file that began as a checkpoint, or not."""
    kind = draw(st.sampled_from(['noise', 'bytes', 'pickle', 'program', 'state', 'state', 'state']))
    if kind == 'noise':
        return draw(st.sampled_from(list(FILES))), draw(st.binary(max_size=200))
    if kind == 'state':
        return '.pth', _torch_bytes(draw(checkpoints()), draw(st.booleans()))
    if kind == 'bytes':
        suffix = draw(st.sampled_from(list(FILES)))
        return suffix, draw(damaged_bytes(draw(st.sampled_from(FILES[suffix]))))
    content = draw(st.sampled_from(FILES['.pth'][:2]))
    if kind == 'pickle':
        return '.pth', _repacked(content, lambda inner: draw(damaged_bytes(inner)))
    program = draw(pickles())
    return '.pth', program if draw(st.booleans()) else _repacked(content, lambda inner: program)


DTYPES = [torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int64, torch.bool,
          torch.complex64, torch.uint8,
          # torch 2.1 has it and cannot save it in the old format.
          *([torch.float8_e4m3fn] if hasattr(torch, 'uint16') else [])]
NAMES = ['', '.', 'conv1', 'conv1.weight.weight', 'a..b', '.weight', 'training', 'forward',
         'layer1.0', 'layer1.0.conv1.sigma', 'conv1.sigma', 'x.sigma', 'sigma', 'fc.weight',
         'layer9.99999999999999999999.conv1.weight', 'conv1.sigma_predictor.w0',
         'conv1.sigma_predictor.b1', 'x\ny', 'é', 'T_destination', 'conv1.weight.sigma']
SHAPES = [(), (1, ), (2, ), (0, ), (4, 3, 7, 7), (4, 4, 3, 3), (0, 3, 7, 7), (4, 0, 3, 3),
          (4, 4, 0, 3), (4, 4, 1, 1), (2, 4), (4, 6), (1, 4), (1, 1, 1, 1, 1), (3, )]


@st.composite
def tensors(draw) -> torch.Tensor:
    tensor = torch.full(draw(st.sampled_from(SHAPES)), draw(st.sampled_from(
        [0.0, 1.0, -3.0, 1e-30, 1e30, math.nan, math.inf])))
    kind = draw(st.sampled_from(['dtype', 'plain', 'plain', 'meta', 'sparse', 'expanded']))
    if kind == 'dtype':
        return torch.nan_to_num(tensor, posinf=1e3).clamp(-10, 10).to(draw(st.sampled_from(DTYPES)))
    if kind == 'meta':
        return tensor.to('meta')
    if kind == 'sparse':
        return tensor.to_sparse() if tensor.dim() else tensor
    return torch.ones(1).expand(2**20, 2**14) if kind == 'expanded' else tensor


@st.composite
def checkpoints(draw) -> dict:
    """A state dict with some changes, in some layout."""
    state = dict(STATE)
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 4]))):
        name = draw(st.sampled_from(list(state) or ['none']))
        kind = draw(st.sampled_from(['drop', 'rename', 'replace', 'add', 'object']))
        if kind in ('drop', 'rename'):
            tensor = state.pop(name, torch.ones(1))
            if kind == 'rename':
                state[draw(st.sampled_from(NAMES) | st.text(max_size=8))] = tensor
        elif kind == 'replace':
            state[name] = draw(tensors())
        elif kind == 'add':
            state[draw(st.sampled_from(NAMES) | st.text(max_size=8))] = draw(tensors())
        else:
            state[draw(st.sampled_from(NAMES) | st.just(name))] = draw(
                st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers()))
    prefix = draw(st.sampled_from(['', 'backbone.', 'module.backbone.', 'module.', '.', '..']))
    state = {prefix + name: value for name, value in state.items()}
    place = draw(st.sampled_from(['', 'state_dict', 'model', 'state_dict_ema', 'elsewhere']))
    checkpoint = {place: state} if place else state
    meta = draw(st.none() | st.text(max_size=5) | st.fixed_dictionaries(dict(
        sigma_pattern=st.sampled_from(['sigma', 'sigma_pair', 'sigma_ratio', 'none', 3, None]),
        cfg=st.none() | st.text(max_size=5))))
    return checkpoint if meta is None else {**checkpoint, 'meta': meta}
