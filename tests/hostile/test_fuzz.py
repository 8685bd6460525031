"""Whatever a file holds, it is used whole or refused by one ``CheckpointError``.

The same files every time; ``GMCONV_FUZZ=5000`` tries as many, each time others.
"""
from __future__ import annotations

import os
import struct
import tempfile
import zipfile
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gmconv_mmdet.checkpoints import CheckpointError, read_checkpoint
from gmconv_mmdet.openmmlab.config_placement import row_placement
from gmconv_mmdet.pretrained import load_pretrained
from gmconv_mmdet.pretrained.publish import convert_backbone

from .files import STATE, files, network

EXAMPLES = int(os.environ.get('GMCONV_FUZZ', 60))
fuzz = settings(max_examples=EXAMPLES, derandomize='GMCONV_FUZZ' not in os.environ, deadline=None,
                database=None, suppress_health_check=list(HealthCheck))


def refused(call) -> bool:
    """Whether ``call`` refuses, in the way that it is documented to."""
    try:
        call()
        return False
    except CheckpointError as error:
        text = str(error)
        assert text and len(text) < 4000 and all(
            line.isprintable() for line in text.split('\n')), text
        return True


def test_a_file_is_loaded_whole_or_refused():
    """Nothing is written into the network where it is refused."""
    seen = []

    @fuzz
    @given(file=files())
    def holds(file):
        suffix, content = file
        net = network()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f'x{suffix}')
            path.write_bytes(content)
            seen.append(refused(lambda: load_pretrained(net, path)))
            state = net.state_dict()
            if seen[-1]:
                assert all(torch.equal(tensor, STATE[name]) for name, tensor in state.items())
            else:
                assert all(torch.isfinite(tensor).all() for tensor in state.values())
                assert read_checkpoint(path)

    holds()
    assert set(seen) == {True, False} and len(seen) >= EXAMPLES


def test_a_file_is_published_whole_or_refused():
    """What is published loads again; where a file is refused nothing is written."""
    seen = []

    @fuzz
    @given(file=files(),
           placement=st.sampled_from([
               dict(), dict(to='gm'), dict(to='plain'),
               dict(to=partial(row_placement, 'r50-gm-stem-l1')),
               dict(to=partial(row_placement, '../x'))]),
           prefix=st.sampled_from([None, None, '', 'backbone', 'module.', 'x', '.']),
           suffix=st.sampled_from(['.pth', '.pth', '.safetensors']))
    def holds(file, placement, prefix, suffix):
        with tempfile.TemporaryDirectory() as folder:
            source, out = Path(folder, f'source{file[0]}'), Path(folder, 'out')
            source.write_bytes(file[1])
            out.mkdir()
            published = []
            seen.append(refused(lambda: published.append(
                convert_backbone(source, out / f'out{suffix}', prefix=prefix, **placement))))
            if seen[-1]:
                assert not any(out.iterdir())
            else:
                path, = out.iterdir()
                assert path == published[0].path and read_checkpoint(path)

    holds()
    assert set(seen) == {True, False} and len(seen) >= EXAMPLES


def test_names_in_messages_can_be_shown(tmp_path):
    """Found by the fuzzer: an entry beside the tensors, named with a control code."""
    torch.save({'\x07tate_dict': {}, 'x' * 10**6: 1}, tmp_path / 'x.pth')
    with pytest.raises(CheckpointError) as error:
        convert_backbone(tmp_path / 'x.pth', tmp_path / 'y.pth')
    assert str(error.value).isprintable() and len(str(error.value)) < 1000
    assert "'\\x07tate_dict'" in str(error.value)


def test_an_archive_that_claims_to_span_files(tmp_path):
    """Found by the fuzzer: `zipfile.is_zipfile` raises for it."""
    path = tmp_path / 'x.pth'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('x/data.pkl', b'')
    content = path.read_bytes()
    end = content.rindex(b'PK\x05\x06')
    locator = struct.pack('<4sLQL', b'PK\x06\x07', 1, end, 2)  # of the Zip64 record: on disk 1 of 2
    path.write_bytes(content[:end] + locator + content[end:])
    with pytest.raises(CheckpointError, match='multiple disks'):
        convert_backbone(path, tmp_path / 'y.pth')
