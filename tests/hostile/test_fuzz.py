"""The properties of fuzz.py, for some seconds and on the same files every time."""
import pytest
import torch

from gmconv_mmdet.weights import CheckpointError
from gmconv_mmdet.weights.convert import convert_backbone

from .fuzz import PROPERTIES, fuzz


@pytest.mark.parametrize('name', list(PROPERTIES))
def test_a_file_is_used_whole_or_refused(name, tmp_path):
    seen = fuzz(name, tmp_path, examples=150)
    assert set(seen) == {'refused', 'loaded' if name == 'load_pretrained' else 'converted'}
    assert sum(seen.values()) >= 150


def test_names_in_messages_can_be_shown(tmp_path):
    """Found by the fuzzer: an entry beside the tensors, named with a control code."""
    torch.save({'\x07tate_dict': {}, 'x' * 10**6: 1}, tmp_path / 'x.pth')
    with pytest.raises(CheckpointError) as error:
        convert_backbone(tmp_path / 'x.pth', tmp_path / 'y.pth')
    assert str(error.value).isprintable() and len(str(error.value)) < 1000
    assert "'\\x07tate_dict'" in str(error.value)
