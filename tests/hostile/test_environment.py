"""Folders that can't be written to, outputs that exist, GPUs that are not there; broken installations
are in tests/test_doctor.py."""
from __future__ import annotations

from pathlib import Path

import pytest
import torch

from .coco_data import data, whole_tool
from .files import STATE
from .outcome import DEMO, assert_refused, tool

# Not writable for root either, so that the cases are the same for every user.
UNWRITABLE = Path('/proc/gmconv_mmdet')
WRITERS = {
    'convert_backbone': lambda f, out: lambda: tool('model_converters/convert_backbone.py',
                                                    f / 'state.pth', out / 'x.pth'),
    'visualize_masks': lambda f, out: lambda: tool('analysis_tools/visualize_masks.py', DEMO, '--out',
                                                   out / 'x'),
    'analyze_rf': lambda f, out: lambda: tool('analysis_tools/analyze_rf.py', DEMO, '--size', 64, 64,
                                              '--brief', '--json', out / 'x.json'),
    'demo': lambda f, out: lambda: tool('misc/demo.py', '--data', f / 'shapes', '--work-dir', out / 'x',
                                        '--images', 1, 1),
    'reproduce': lambda f, out: whole_tool(f, '--gpus', 0, '--work-root', out / 'x', command='run'),
}


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=[] if name == 'convert_backbone' else pytest.mark.slow) for name in WRITERS])
@pytest.mark.parametrize('file_in_the_way', [True, False])
def test_a_folder_that_can_not_be_written_to(name, file_in_the_way, tmp_path):
    torch.save(STATE, tmp_path / 'state.pth')
    data(tmp_path)
    (tmp_path / 'in the way').write_text('mine')
    out = tmp_path / 'in the way' if file_in_the_way else UNWRITABLE
    assert_refused(tmp_path, WRITERS[name](tmp_path, out), 'directory|exists' if file_in_the_way else
                   'No such file|not writable|ermission|GB are free')


@pytest.mark.slow
def test_a_full_disk(tmp_path):
    assert_refused(tmp_path, lambda: tool('analysis_tools/analyze_rf.py', DEMO, '--size', 64, 64,
                                          '--brief', '--json', '/dev/full'), 'No space left')


def test_outputs_that_exist(tmp_path):
    torch.save(STATE, tmp_path / 'x.pth')
    for name in ('x.onnx', 'x.py'):
        (tmp_path / name).write_text('mine')
    assert_refused(tmp_path, lambda: tool('deployment/export_onnx.py', DEMO, tmp_path / 'x.pth',
                                          tmp_path / 'x.onnx'), '--force replaces')
    assert_refused(tmp_path, lambda: tool('deployment/fuse.py', DEMO, tmp_path / 'y.pth',
                                          tmp_path / 'x'), '--force replaces')


def test_more_gpus_than_there_are(tmp_path):
    data(tmp_path)
    assert_refused(tmp_path, whole_tool(tmp_path, '--gpus', torch.cuda.device_count() + 1),
                   '--gpus 0 uses the CPU')


def test_images_of_something_else(tmp_path):
    (tmp_path / 'shapes').mkdir()
    (tmp_path / 'shapes' / 'mine.jpg').write_text('mine')
    assert_refused(tmp_path, lambda: tool('misc/demo.py', '--data', tmp_path / 'shapes', '--work-dir',
                                          tmp_path / 'work'), 'was not made by this command')
