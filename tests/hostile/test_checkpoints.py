"""Broken and hostile checkpoints, beside those of tests/checkpoints and tests/pretrained."""
from __future__ import annotations

import io
import math
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from gmconv_mmdet.pretrained import load_pretrained

from .files import STATE, network
from .outcome import DEMO, assert_goes_on, assert_refused, tool

CONV, SIGMA = 'layer1.0.conv1.weight', 'layer1.0.conv1.sigma'


def load(path: Path) -> str:
    """Load a file into a small GMResNet, which must not change where that is refused."""
    net = network()
    try:
        report = load_pretrained(net, path)
    except Exception:
        assert all(torch.equal(t, STATE[n]) for n, t in net.state_dict().items())
        raise
    assert all(t.isfinite().all() for t in net.state_dict().values())
    net.eval()
    assert all(out.isfinite().all() for out in net(torch.ones(1, 3, 32, 32)))
    return f'{len(report.loaded) + len(report.folded)} tensors loaded'


def convert(path: Path, *options: object, to: str = 'out.pth') -> str:
    return tool('model_converters/convert_backbone.py', path, path.parent / to, *options)


def saved(folder: Path, content: object) -> Path:
    torch.save(content, folder / 'x.pth')
    return folder / 'x.pth'


class RunsCommand:
    """Unpickles to a command that is run."""

    def __reduce__(self):
        return os.system, ('true', )


@pytest.mark.slow
@pytest.mark.parametrize('name, arguments', [
    ('analysis_tools/visualize_masks.py', lambda f: (DEMO, f / 'x.pth', '--out', f / 'out')),
    ('analysis_tools/visualize_erf.py', lambda f: (
        'network', f'{DEMO},{f / "x.pth"}', '--out', f / 'out', '--images', f)),
    ('analysis_tools/analyze_rf.py', lambda f: (DEMO, '--size', 64, 64, '--checkpoint', f / 'x.pth')),
    ('deployment/fuse.py', lambda f: (DEMO, f / 'x.pth', f / 'out')),
    ('deployment/export_onnx.py', lambda f: (DEMO, f / 'x.pth', f / 'out.onnx'))])
def test_a_pickle_that_runs_a_command(name, arguments, tmp_path):
    saved(tmp_path, dict(state_dict=STATE, x=RunsCommand()))
    (tmp_path / 'a.png').write_bytes(b'')
    assert_refused(tmp_path, lambda: tool(name, *arguments(tmp_path)), 'was refused')


@pytest.mark.parametrize('content, says', [
    pytest.param(pickle.dumps(dict(x=RunsCommand()), protocol=2), 'was refused', id='a command'),
    pytest.param(b'\x80\x02ctorch\nSize\n\x8a\xff' + b'\x7f' * 255 + b'\x85R.', 'damaged',
                 id='a number of 255 bytes as size'),
    pytest.param(b'<!DOCTYPE html><html>Sign in</html>', 'is a web page', id='a web page'),
    pytest.param(b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull', id='Git LFS'),
    pytest.param(b'hello, this is no checkpoint', 'damaged', id='a text'),
    pytest.param(np.random.default_rng(0).bytes(4096), 'damaged', id='random bytes'),
    pytest.param(bytes(4096), 'damaged', id='zeros'),
    pytest.param(b'', 'is empty', id='empty')])
def test_bytes(content, says, tmp_path):
    path = tmp_path / 'x.pth'
    path.write_bytes(content)
    assert_refused(tmp_path, lambda: load(path), says)


def test_a_safetensors_header_of_2_to_60_bytes(tmp_path):
    path = tmp_path / 'x.safetensors'
    path.write_bytes(struct.pack('<Q', 2**60) + b'{}')
    assert_refused(tmp_path, lambda: load(path), 'damaged')


def zip_bomb(path: Path) -> None:
    """16 MB of zeros in 20 kB."""
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('x/data.pkl', b'\x80\x02' + b'\0' * 2**24)


def packed_with_compression(path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))


def tar_archive(path: Path) -> None:
    with tarfile.open(path, 'w') as archive:
        archive.add(__file__, 'inner.pth')


def torchscript(path: Path) -> None:
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(path))


@pytest.mark.parametrize('write, says', [
    (zip_bomb, 'is a compressed archive'), (packed_with_compression, 'was packed anew'),
    (tar_archive, 'is a tar archive'), (torchscript, 'TorchScript'),
    (Path.mkdir, 'no checkpoint at'), (lambda path: None, 'no checkpoint at')])
def test_archives_and_folders(write, says, tmp_path):
    write(tmp_path / 'x.pth')
    assert_refused(tmp_path, lambda: load(tmp_path / 'x.pth'), says)


def test_a_network_on_meta_and_names_of_no_file(tmp_path):
    path = saved(tmp_path, STATE)
    assert_refused(tmp_path, lambda: load_pretrained(network().to('meta'), path), 'to_empty')
    assert_refused(tmp_path, lambda: load_pretrained(network(), 'ftp://example.org/x.pth'),
                   'unknown kind of link')
    assert_refused(tmp_path, lambda: load_pretrained(network(), 'torchvision://resnet51'), 'knows no')


def without(*names: str) -> dict:
    return {name: tensor for name, tensor in STATE.items() if name not in names}


CONTENTS = {
    'no tensor in it': (dict(epoch=3), 'holds no tensors'),
    'another architecture': (dict(a=torch.ones(2), b=torch.ones(3)), 'another architecture'),
    'another width': ({n: torch.cat([t, t]) if t.dim() == 4 else t for n, t in STATE.items()},
                      'does not fit'),
    'a tensor is missing': (without(CONV), 'not in the checkpoint'),
    'a tensor too many': ({**STATE, 'layer1.0.se.weight': torch.ones(2)}, 'superfluous'),
    'a tensor of 64 TB that stores 4 bytes': (
        {**STATE, CONV: torch.ones(1).expand(2**22, 2**22)}, 'bytes, and 4 are'),
    'integer weights (int8)': ({**STATE, CONV: STATE[CONV].to(torch.int8)}, 'int8, not floating'),
    'complex weights': ({**STATE, CONV: STATE[CONV].to(torch.complex64)}, 'complex'),
    'sparse weights': ({**STATE, CONV: STATE[CONV].to_sparse()}, 'sparse'),
    'weights without values (meta)': ({**STATE, CONV: STATE[CONV].to('meta')}, 'without values'),
    'a NaN weight': ({**STATE, CONV: STATE[CONV].index_fill(0, torch.tensor([0]), math.nan)},
                     'NaN or infinite.*use an earlier one'),
    'an infinite weight': ({**STATE, 'bn1.running_var': torch.full((4, ), math.inf)},
                           'NaN or infinite'),
    'sigma NaN': ({**STATE, SIGMA: torch.tensor([math.nan])}, 'sigma.*1 of 1'),
    'sigma of shape (3,)': ({**STATE, SIGMA: torch.ones(3)}, r'wrong shape: sigma \(3,\)'),
    'a predictor without its bias': (without('conv1.sigma_predictor.b1'), 'is not complete'),
    'a predictor of three numbers': ({
        **STATE, 'conv1.sigma_predictor.w1': torch.ones(3, 4),
        'conv1.sigma_predictor.b1': torch.ones(3)}, 'wrong shape'),
    'the network twice, the second without counters and masks': (
        {**{f'backbone.{n}': t for n, t in STATE.items()},
         **{f'backbone.backbone.{n}': t for n, t in STATE.items() if 'num' not in n
            and 'sigma' not in n}}, 'more than once'),
    'a name of a million dots': ({**STATE, '.' * 10**6: torch.ones(1)}, 'as none in a network'),
    'a name with control codes of a terminal': ({**STATE, '\x1b[2Jx': torch.ones(1)},
                                                'as none in a network'),
}


@pytest.mark.parametrize('fault', CONTENTS)
def test_contents(fault, tmp_path):
    content, says = CONTENTS[fault]
    path = saved(tmp_path, content)
    assert_refused(tmp_path, lambda: load(path), says)


@pytest.mark.filterwarnings('ignore')  # torch deprecates what is tried here
def test_quantized_weights(tmp_path):
    path = saved(tmp_path, {**STATE, CONV: torch.quantize_per_tensor(STATE[CONV], 0.1, 0, torch.qint8)})
    assert_refused(tmp_path, lambda: load(path), 'quantized')


@pytest.mark.parametrize('content', [
    pytest.param({n: t.half() if t.is_floating_point() else t for n, t in STATE.items()}, id='fp16'),
    pytest.param({n: t.double() if t.is_floating_point() else t for n, t in STATE.items()}, id='fp64'),
    pytest.param({**STATE, SIGMA: torch.zeros(1)}, id='sigma 0'),  # passes the centre only
    pytest.param({**STATE, SIGMA: -STATE[SIGMA]}, id='sigma negative'),  # its sign means nothing
    pytest.param({**STATE, SIGMA: torch.full((1, ), 1e30)}, id='sigma 1e30'),  # a mask of ones
    pytest.param(dict(state_dict=STATE, meta=dict(cfg='x' * 3 * 10**7)), id='30 MB of metadata')])
def test_unusual_but_good(content, tmp_path):
    path = saved(tmp_path, content)
    assert_goes_on(tmp_path, lambda: load(path), '37 tensors loaded')


def test_metadata_10000_lists_deep(tmp_path):
    """As no writer makes it: pickle itself would give up."""
    marker = 'deep metadata stands here'
    buffer = io.BytesIO()
    torch.save(dict(state_dict=STATE, meta=marker), buffer)
    text = b'X' + struct.pack('<I', len(marker)) + marker.encode()
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(tmp_path / 'x.pth', 'w') as new:
        for entry in old.infolist():
            inner = old.read(entry)
            if entry.filename.endswith('data.pkl'):
                assert text in inner
                inner = inner.replace(text, b']' * 10000 + b'a' * 9999)
            new.writestr(entry.filename, inner)
    assert_goes_on(tmp_path, lambda: load(tmp_path / 'x.pth'), '37 tensors loaded')


@pytest.mark.parametrize('options, to, says', [
    (('--row', 'r51'), 'out.pth', '--row must be one of'),
    (('--prefix', 'teacher'), 'out.pth', 'behind the prefix'),
    (('--to', 'gm', '--row', 'r50'), 'out.pth', 'not both'),
    ((), 'out.onnx', 'must end in .pth or .safetensors')])
def test_conversion_that_can_not_be(options, to, says, tmp_path):
    path = saved(tmp_path, STATE)
    assert_refused(tmp_path, lambda: convert(path, *options, to=to), says)


@pytest.mark.slow
def test_checkpoints_of_other_networks(tmp_path):
    path = saved(tmp_path, dict(state_dict={f'backbone.{n}': t for n, t in STATE.items()}))
    assert_refused(tmp_path, lambda: tool('deployment/fuse.py', DEMO, path, tmp_path / 'out'),
                   'does not hold this config\'s model')
    path = saved(tmp_path, dict(state_dict=dict(x=torch.ones(1))))
    assert_refused(tmp_path, lambda: tool('analysis_tools/visualize_masks.py', DEMO, path, '--out',
                                          tmp_path / 'out'), 'holds no weight of this backbone')
