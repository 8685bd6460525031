"""Broken and hostile checkpoints."""
from __future__ import annotations

import io
import math
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from gmconv_mmdet.pretrained import load_pretrained

from .case import REPO, case, tool
from .fuzz import STATE, TRAINING, network

DEMO = REPO / 'configs' / 'demo' / 'faster-rcnn_r18-gm_fpn_shapes.py'
LOAD, CONVERT = '`load_pretrained`', '`tools/model_converters/convert_backbone.py`'
CONV, SIGMA = 'layer1.0.conv1.weight', 'layer1.0.conv1.sigma'


def loads(path: Path) -> Callable[[], object]:
    """Loads a file into a small GMResNet, which must not change where that is refused."""
    def act():
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
    return act


def converts(path: Path, *options: object, to: str = 'out.pth') -> Callable[[], object]:
    return lambda: tool('model_converters/convert_backbone.py', path, path.parent / to, *options)


def saved(folder: Path, content: object, name: str = 'x.pth', zip_format: bool = True) -> Path:
    torch.save(content, folder / name, _use_new_zipfile_serialization=zip_format)
    return folder / name


class Runs:
    """Unpickles to a call, given a state where there is one."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


@case('checkpoint', 'a pickle that runs a command, no torch file', CONVERT, refused='was refused')
def hostile_raw(folder):
    (folder / 'x.pth').write_bytes(pickle.dumps(dict(x=Runs(os.system, ('true', ))), protocol=2))
    return converts(folder / 'x.pth')


for _tool, _arguments in {
        'analysis_tools/visualize_masks.py': lambda f: (DEMO, f / 'x.pth', '--out', f / 'out'),
        'analysis_tools/visualize_erf.py': lambda f: (
            'network', f'{DEMO},{f / "x.pth"}', '--out', f / 'out', '--images', f),
        'analysis_tools/analyze_rf.py': lambda f: (DEMO, '--size', 64, 64, '--checkpoint', f / 'x.pth'),
        'deployment/fuse.py': lambda f: (DEMO, f / 'x.pth', f / 'out'),
        'deployment/export_onnx.py': lambda f: (DEMO, f / 'x.pth', f / 'out.onnx')}.items():
    @case('checkpoint', 'a pickle that runs a command', f'`tools/{_tool}`', slow=True,
          refused='was refused')
    def hostile_tool(folder, name=_tool, arguments=_arguments):
        saved(folder, dict(state_dict=STATE, x=Runs(os.system, ('true', ))))
        (folder / 'a.png').write_bytes(b'')
        return lambda: tool(name, *arguments(folder))


@case('checkpoint', 'a zip bomb: 16 MB of zeros in 20 kB', LOAD, refused='is a compressed archive')
def bomb(folder):
    path = folder / 'x.pth'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('x/data.pkl', b'\x80\x02' + b'\0' * 2**24)
    return loads(path)


@case('checkpoint', 'packed anew with compression', CONVERT, refused='was packed anew')
def repacked(folder):
    path = saved(folder, STATE, 'original.pth')
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(folder / 'x.pth', 'w',
                                                       zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return converts(folder / 'x.pth')


@case('checkpoint', 'a tensor of 64 TB that stores 4 bytes', CONVERT, refused='bytes, and 4 are')
def expanded(folder):
    return converts(saved(folder, {**STATE, CONV: torch.ones(1).expand(2**22, 2**22)}))


@case('checkpoint', 'a pickled number of 255 bytes as size', LOAD, refused='damaged')
def huge_number(folder):
    (folder / 'x.pth').write_bytes(b'\x80\x02ctorch\nSize\n\x8a\xff' + b'\x7f' * 255 + b'\x85R.')
    return loads(folder / 'x.pth')


for _share in (0, 40, 90):
    @case('checkpoint', f'cut off at {_share} %', LOAD,
          refused='is empty' if _share == 0 else 'is truncated')
    def cut(folder, share=_share):
        content = saved(folder, TRAINING, 'whole.pth').read_bytes()
        (folder / 'x.pth').write_bytes(content[:len(content) * share // 100])
        return loads(folder / 'x.pth')


@case('checkpoint', '.safetensors whose header claims 2^60 bytes', LOAD, refused='damaged')
def header(folder):
    (folder / 'x.safetensors').write_bytes(struct.pack('<Q', 2**60) + b'{}')
    return loads(folder / 'x.safetensors')


OTHER_FILES = {
    'a web page': (b'<!DOCTYPE html><html>Sign in</html>', 'is a web page'),
    'a Git LFS pointer': (b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'),
    'a text file': (b'hello, this is no checkpoint', 'damaged'),
    'random bytes': (np.random.default_rng(0).bytes(4096), 'damaged'),
    'zeros': (bytes(4096), 'damaged'),
}
for _fault, (_content, _says) in OTHER_FILES.items():
    @case('checkpoint', _fault, LOAD, refused=_says)
    def other(folder, content=_content):
        (folder / 'x.pth').write_bytes(content)
        return loads(folder / 'x.pth')


@case('checkpoint', 'no such file', CONVERT, refused='no checkpoint at')
def missing(folder):
    return converts(folder / 'x.pth')


@case('checkpoint', 'a folder', LOAD, refused='no checkpoint at')
def a_folder(folder):
    (folder / 'x.pth').mkdir()
    return loads(folder / 'x.pth')


@case('checkpoint', 'good, but the network is on the device meta', LOAD, refused='to_empty')
def on_meta(folder):
    return lambda: load_pretrained(network().to('meta'), saved(folder, STATE))


@case('checkpoint', 'a tar archive', LOAD, refused='is a tar archive')
def tar(folder):
    with tarfile.open(folder / 'x.pth', 'w') as archive:
        archive.add(saved(folder, STATE, 'inner.pth'), 'inner.pth')
    return loads(folder / 'x.pth')


@case('checkpoint', 'an unknown kind of link', LOAD, refused='unknown kind of link')
def link(folder):
    return lambda: load_pretrained(network(), 'ftp://example.org/x.pth')


@case('checkpoint', 'a name that torchvision does not know', CONVERT, refused='knows no')
def unknown_zoo(folder):
    return lambda: tool('model_converters/convert_backbone.py', 'torchvision://resnet51', folder / 'out.pth')


@case('checkpoint', 'a TorchScript file', LOAD, refused='TorchScript')
def script(folder):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(folder / 'x.pth'))
    return loads(folder / 'x.pth')


def without(*names: str) -> dict:
    return {name: tensor for name, tensor in STATE.items() if name not in names}


CONTENTS = {
    'a list': ([torch.ones(1)], 'holds a list, not a dictionary'),
    'no tensor in it': (dict(epoch=3), 'holds no tensors'),
    'another architecture': (dict(a=torch.ones(2), b=torch.ones(3)), 'another architecture'),
    'another width': ({n: torch.cat([t, t]) if t.dim() == 4 else t for n, t in STATE.items()},
                      'does not fit'),
    'a tensor is missing': (without(CONV), 'not in the checkpoint'),
    'a tensor too many': ({**STATE, 'layer1.0.se.weight': torch.ones(2)}, 'superfluous'),
    'integer weights (int8)': ({**STATE, CONV: STATE[CONV].to(torch.int8)}, 'int8, not floating'),
    'quantized weights': ({**STATE, CONV: torch.quantize_per_tensor(
        STATE[CONV], 0.1, 0, torch.qint8)}, 'quantized'),
    'complex weights': ({**STATE, CONV: STATE[CONV].to(torch.complex64)}, 'complex'),
    'sparse weights': ({**STATE, CONV: STATE[CONV].to_sparse()}, 'sparse'),
    'weights without values (meta)': ({**STATE, CONV: STATE[CONV].to('meta')}, 'without values'),
    'a NaN weight': ({**STATE, CONV: STATE[CONV].index_fill(0, torch.tensor([0]), math.nan)},
                     'NaN or infinite.*use an earlier one'),
    'an infinite weight': ({**STATE, 'bn1.running_var': torch.full((4, ), math.inf)},
                           'NaN or infinite'),
    'sigma NaN': ({**STATE, SIGMA: torch.tensor([math.nan])}, 'sigma.*1 of 1'),
    'sigma infinite': ({**STATE, SIGMA: torch.tensor([math.inf])}, 'sigma.*1 of 1'),
    'sigma of shape (3,)': ({**STATE, SIGMA: torch.ones(3)}, r'wrong shape: sigma \(3,\)'),
    'a predictor without its bias': (without('conv1.sigma_predictor.b1'), 'is not complete'),
    'a predictor of three numbers': ({
        **STATE, 'conv1.sigma_predictor.w1': torch.ones(3, 4),
        'conv1.sigma_predictor.b1': torch.ones(3)}, 'wrong shape'),
    'the network twice (student and teacher)': (
        {f'{who}.{n}': t for who in ('student', 'teacher') for n, t in STATE.items()},
        'more than once'),
    'the network twice, the second without counters and masks': (
        {**{f'backbone.{n}': t for n, t in STATE.items()},
         **{f'backbone.backbone.{n}': t for n, t in STATE.items() if 'num' not in n
            and 'sigma' not in n}}, 'more than once'),
    'a name of a million dots': ({**STATE, '.' * 10**6: torch.ones(1)}, 'as none in a network'),
    'a name with control codes of a terminal': ({**STATE, '\x1b[2Jx': torch.ones(1)},
                                                'as none in a network'),
}
for _fault, (_content, _says) in CONTENTS.items():
    @case('checkpoint', _fault, LOAD, refused=_says)
    def content(folder, what=_content):
        return loads(saved(folder, what))

GOOD = {
    'weights in fp16': {n: t.half() if t.is_floating_point() else t for n, t in STATE.items()},
    'weights in fp64': {n: t.double() if t.is_floating_point() else t for n, t in STATE.items()},
    'sigma 0 (a mask that passes the centre only)': {**STATE, SIGMA: torch.zeros(1)},
    'sigma negative (its sign means nothing)': {**STATE, SIGMA: -STATE[SIGMA]},
    'sigma 1e30 (a mask of ones)': {**STATE, SIGMA: torch.full((1, ), 1e30)},
    '30 MB of metadata': dict(state_dict=STATE, meta=dict(cfg='x' * 3 * 10**7)),
    'metadata 10,000 lists deep': dict(state_dict=STATE, meta=None),
}
for _fault, _content in GOOD.items():
    @case('checkpoint', _fault, LOAD, goes_on='37 tensors loaded')
    def good(folder, what=_content, fault=_fault):
        if 'deep' in fault:
            return loads(_with_deep_metadata(folder))
        return loads(saved(folder, what))


def _with_deep_metadata(folder: Path) -> Path:
    """As no writer makes it: pickle itself would give up."""
    marker = 'deep metadata stands here'
    buffer = io.BytesIO()
    torch.save(dict(state_dict=STATE, meta=marker), buffer)
    text = b'X' + struct.pack('<I', len(marker)) + marker.encode()
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(folder / 'x.pth', 'w') as new:
        for entry in old.infolist():
            inner = old.read(entry)
            if entry.filename.endswith('data.pkl'):
                assert text in inner
                inner = inner.replace(text, b']' * 10000 + b'a' * 9999)
            new.writestr(entry.filename, inner)
    return folder / 'x.pth'


for _fault, _options, _says in (
        ('an unknown row', ('--row', 'r51'), '--row must be one of'),
        ('a prefix that is not there', ('--prefix', 'teacher'), 'behind the prefix'),
        ('--to and --row', ('--to', 'gm', '--row', 'r50'), 'not both')):
    @case('checkpoint', f'good, but {_fault} asked for', CONVERT, refused=_says)
    def asked(folder, options=_options):
        return converts(saved(folder, STATE), *options)


@case('checkpoint', 'good, but a target that is no checkpoint\'s name', CONVERT,
      refused='must end in .pth or .safetensors')
def target(folder):
    return converts(saved(folder, STATE), to='out.onnx')


@case('checkpoint', 'a detector\'s, of another width', '`tools/deployment/fuse.py`', slow=True,
      refused='does not hold this config\'s model')
def another_detector(folder):
    path = saved(folder, dict(state_dict={f'backbone.{n}': t for n, t in STATE.items()}))
    return lambda: tool('deployment/fuse.py', DEMO, path, folder / 'out')


@case('checkpoint', 'nothing of this network', '`tools/analysis_tools/visualize_masks.py`', slow=True,
      refused='holds no weight of this backbone')
def nothing_of_it(folder):
    path = saved(folder, dict(state_dict=dict(x=torch.ones(1))))
    return lambda: tool('analysis_tools/visualize_masks.py', DEMO, path, '--out', folder / 'out')
