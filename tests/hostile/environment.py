"""Broken environments and folders that can't be written to."""
from __future__ import annotations

from pathlib import Path

import torch

from .annotations import data, whole_tool
from .case import case, tool
from .checkpoints import STATE, saved
from .configs import DEMO

# Not writable for root either, so that the cases are the same for every user.
UNWRITABLE = Path('/proc/gmconv_mmdet')


WRITERS = {
    '`tools/model_converters/convert_backbone.py`': lambda f, out: lambda: tool(
        'model_converters/convert_backbone.py', saved_state(f), out / 'x.pth'),
    '`tools/analysis_tools/visualize_masks.py`': lambda f, out: lambda: tool(
        'analysis_tools/visualize_masks.py', DEMO, '--out', out / 'x'),
    '`tools/analysis_tools/analyze_rf.py`': lambda f, out: lambda: tool(
        'analysis_tools/analyze_rf.py', DEMO, '--size', 64, 64, '--brief', '--json', out / 'x.json'),
    '`tools/misc/demo.py`': lambda f, out: lambda: tool(
        'misc/demo.py', '--data', f / 'shapes', '--work-dir', out / 'x', '--images', 1, 1),
    '`tools/reproduce.py run`': lambda f, out: whole_tool(
        f, '--gpus', 0, '--work-root', out / 'x', command='run'),
}


def saved_state(folder: Path) -> Path:
    return folder / 'state.pth'


for _given_to, _writer in WRITERS.items():
    for _fault, _says in (('a file where a folder is to be', 'directory|exists'),
                          ('a folder that can\'t be written to', 'No such file|not writable|'
                           'ermission|GB are free')):
        @case('environment', _fault, _given_to, refused=_says, slow='convert' not in _given_to)
        def unwritable(folder, writer=_writer, fault=_fault):
            saved(folder, STATE, 'state.pth')
            data(folder)
            (folder / 'in the way').write_text('mine')
            return writer(folder, folder / 'in the way' if 'file' in fault else UNWRITABLE)


@case('environment', 'a full disk', '`tools/analysis_tools/analyze_rf.py`', refused='No space left',
      slow=True)
def full_disk(folder):
    return lambda: tool('analysis_tools/analyze_rf.py', DEMO, '--size', 64, 64, '--brief',
                        '--json', '/dev/full')


@case('environment', 'an output that exists', '`tools/deployment/export_onnx.py`', refused='--force replaces')
def exists(folder):
    (folder / 'x.onnx').write_text('mine')
    return lambda: tool('deployment/export_onnx.py', DEMO, saved(folder, STATE), folder / 'x.onnx')


@case('environment', 'a config of that name', '`tools/deployment/fuse.py`', refused='--force replaces')
def fuse_exists(folder):
    (folder / 'x.py').write_text('mine')
    return lambda: tool('deployment/fuse.py', DEMO, folder / 'y.pth', folder / 'x')


@case('environment', 'more GPUs than there are', '`tools/reproduce.py check`',
      refused='--gpus 0 uses the CPU')
def gpus(folder):
    data(folder)
    return whole_tool(folder, '--gpus', torch.cuda.device_count() + 1)


@case('environment', 'images of something else in the folder', '`tools/misc/demo.py`',
      refused='was not made by this command')
def foreign_images(folder):
    (folder / 'shapes').mkdir()
    (folder / 'shapes' / 'mine.jpg').write_text('mine')
    return lambda: tool('misc/demo.py', '--data', folder / 'shapes', '--work-dir', folder / 'work')
