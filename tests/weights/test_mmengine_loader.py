"""What MMEngine says and does when it reads local checkpoints, with this package imported."""
import os

import pytest
import torch
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import nn

from gmconv_mmdet.weights import CheckpointError


class CreatesFile:

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path), )


def test_loads_as_before(tmp_path):
    donor, model = nn.Linear(2, 3), nn.Linear(2, 3)
    torch.save(dict(state_dict=donor.state_dict(), meta=dict(epoch=3)), tmp_path / 'a.pth')
    checkpoint = load_checkpoint(model, str(tmp_path / 'a.pth'), map_location='cpu', strict=True)
    assert torch.equal(model.weight, donor.weight) and checkpoint['meta'] == dict(epoch=3)


def test_tensors_outlive_their_file(tmp_path):
    """MMEngine writes iter_N.pth again when a run that was set back gets there again."""
    path = tmp_path / 'iter_5.pth'
    torch.save(dict(weight=torch.ones(10000)), path)
    checkpoint = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    path.write_bytes(b'')
    assert checkpoint['weight'].sum() == 10000


@pytest.mark.parametrize('zip_format', [True, False])
def test_a_hostile_file_runs_nothing(tmp_path, zip_format):
    """OneDL's own loader would warn, and run it."""
    path = tmp_path / 'hostile.pth'
    torch.save(dict(state_dict=CreatesFile(tmp_path / 'created')), path,
               _use_new_zipfile_serialization=zip_format)
    with pytest.raises(CheckpointError, match='was refused.*mkdir'):
        load_checkpoint(nn.Linear(2, 3), str(path))
    assert not (tmp_path / 'created').exists()


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / 'cut.pth'
    torch.save(dict(state_dict=nn.Linear(20, 30).state_dict()), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match='cut.pth is truncated'):
        load_checkpoint(nn.Linear(20, 30), str(path))
    with pytest.raises(FileNotFoundError, match='no checkpoint at .*gone.pth'):
        load_checkpoint(nn.Linear(20, 30), str(tmp_path / 'gone.pth'))
