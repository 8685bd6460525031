"""Every bad file gives one clear sentence; good ones are read as saved."""

import pytest
import torch
from safetensors.torch import save_file

from gmconv_mmdet.checkpoints import CheckpointError, read_checkpoint


@pytest.mark.parametrize('zip_format', [True, False])
def test_reads_torch_files(tmp_path, zip_format):
    path = tmp_path / 'x.pth'
    tensors = dict(weight=torch.randn(3, 2), count=torch.tensor(4))
    torch.save(tensors, path, _use_new_zipfile_serialization=zip_format)
    read = read_checkpoint(str(path))
    assert set(read) == set(tensors) and all(torch.equal(read[n], tensors[n]) for n in tensors)


def test_reads_safetensors(tmp_path):
    path = tmp_path / 'x.safetensors'
    weight = torch.randn(3, 2, dtype=torch.bfloat16)
    save_file(dict(weight=weight), path, metadata=dict(depth='18'))
    read = read_checkpoint(path)
    assert torch.equal(read['state_dict']['weight'], weight) and read['meta'] == dict(depth='18')


@pytest.mark.parametrize('share', [0.1, 0.999])
@pytest.mark.parametrize('kind', ['zip', 'legacy', 'safetensors'])
def test_truncated(tmp_path, kind, share):
    path = tmp_path / ('x.safetensors' if kind == 'safetensors' else 'x.pth')
    tensors = dict(weight=torch.randn(64, 64))
    if kind == 'safetensors':
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == 'zip')
    content = path.read_bytes()
    path.write_bytes(content[:int(share * len(content))])
    with pytest.raises(CheckpointError, match='truncated|damaged') as error:
        read_checkpoint(path)
    assert len(str(error.value).splitlines()) == 1 and str(path) in str(error.value)


def test_no_file_and_no_dictionary(tmp_path):
    with pytest.raises(FileNotFoundError, match='no checkpoint at .*nowhere.pth'):
        read_checkpoint(tmp_path / 'nowhere.pth')
    torch.save([torch.ones(1)], tmp_path / 'list.pth')
    with pytest.raises(CheckpointError, match='holds a list, not a dictionary'):
        read_checkpoint(tmp_path / 'list.pth')
