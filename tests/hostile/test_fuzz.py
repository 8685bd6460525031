"""The properties of fuzz.py, for some seconds and on the same files every time."""
import struct
import zipfile

import pytest
import torch

from gmconv_mmdet.checkpoints import CheckpointError
from gmconv_mmdet.pretrained.publish import convert_backbone

from .fuzz import PROPERTIES, fuzz


@pytest.mark.parametrize('name', list(PROPERTIES))
def test_a_file_is_used_whole_or_refused(name, tmp_path):
    seen = fuzz(name, tmp_path, examples=60)
    assert set(seen) == {'refused', 'loaded' if name == 'load_pretrained' else 'converted'}
    assert sum(seen.values()) >= 60


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
