"""Every bad file gives one clear sentence; good ones are read as saved."""
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from gmconv_mmdet.checkpoints import CheckpointError, read_checkpoint


class RunsCode:

    def __reduce__(self):
        return os.system, ('touch /tmp/gmconv_mmdet_was_here', )


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


def test_refuses_a_hostile_file_and_runs_nothing(tmp_path):
    torch.save(dict(weight=torch.ones(1), extra=RunsCode()), tmp_path / 'zip.pth')
    (tmp_path / 'raw.pth').write_bytes(pickle.dumps(dict(extra=RunsCode()), protocol=2))
    for name in ('zip.pth', 'raw.pth'):
        with pytest.raises(CheckpointError, match='was refused.*could run code') as error:
            read_checkpoint(tmp_path / name)
        assert len(str(error.value).splitlines()) == 1 and 'system' in str(error.value)
    assert not os.path.exists('/tmp/gmconv_mmdet_was_here')


@pytest.mark.parametrize('share', [0.1, 0.5, 0.9, 0.999])
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


@pytest.mark.parametrize('content, says', [
    (b'', 'is empty'),
    (b'\n <!DOCTYPE html><html>Sign in</html>', 'web page'),
    (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', 'git lfs pull'),
    (b'\x00' * 4096, 'damaged'),
    (b'hello, this is a text file', 'damaged'),
])
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_other_files(tmp_path, content, says, suffix):
    path = tmp_path / f'x{suffix}'
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=says) as error:
        read_checkpoint(path)
    assert len(str(error.value).splitlines()) == 1


def test_refuses_getattr_and_torchscript(tmp_path):
    # getattr is let through for MMEngine's log histories, for nothing else.
    raw = pickle.dumps(dict(extra=0), protocol=2)
    raw = raw.replace(b'K\x00', b'cbuiltins\ngetattr\n(cbuiltins\nobject\nX\x04\x00\x00\x00nametR')
    (tmp_path / 'getattr.pth').write_bytes(raw)
    with pytest.raises(CheckpointError, match='was refused|damaged') as error:
        read_checkpoint(tmp_path / 'getattr.pth')
    assert len(str(error.value).splitlines()) == 1
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / 'script.pth'))
    with pytest.raises(CheckpointError, match='TorchScript'):
        read_checkpoint(tmp_path / 'script.pth')


def test_no_file_and_no_dictionary(tmp_path):
    with pytest.raises(FileNotFoundError, match='no checkpoint at .*nowhere.pth'):
        read_checkpoint(tmp_path / 'nowhere.pth')
    torch.save([torch.ones(1)], tmp_path / 'list.pth')
    with pytest.raises(CheckpointError, match='holds a list, not a dictionary'):
        read_checkpoint(tmp_path / 'list.pth')
