"""MMEngine's loader of local files, with this package imported: as it was, and training checkpoints
load where torch is 2.6 or newer."""
from __future__ import annotations

import os
import pickle
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import nn

from gmconv_mmdet.checkpoints import CheckpointError
from gmconv_mmdet.openmmlab.mmengine_loader import _STOCK, SWITCH, load_from_local, register_loader


def stock_refuses() -> bool:
    """Whether MMEngine's own loader refuses classes: torch 2.6 and newer, but not OneDL's."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _STOCK(saved(Path(folder), dict(rate=Fraction(1, 3))), 'cpu')
        except pickle.UnpicklingError:
            return True
    return False


class CreatesFile:

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path), )


def saved(folder, content, **options):
    torch.save(content, folder / 'x.pth', **options)
    return str(folder / 'x.pth')


STOCK_REFUSES = pytest.mark.skipif(not stock_refuses(), reason='MMEngine itself reads classes here')


def test_loads_as_before(tmp_path):
    donor, model = nn.Linear(2, 3), nn.Linear(2, 3)
    path = saved(tmp_path, dict(state_dict=donor.state_dict(), meta=dict(epoch=3)))
    checkpoint = load_checkpoint(model, path, map_location='cpu', strict=True)
    assert torch.equal(model.weight, donor.weight) and checkpoint['meta'] == dict(epoch=3)
    assert CheckpointLoader.load_checkpoint(saved(tmp_path, [1, 2])) == [1, 2]
    with pytest.raises(FileNotFoundError, match='can not be found'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'gone.pth'))


def test_tensors_outlive_their_file(tmp_path):
    """MMEngine writes iter_N.pth again when a run that was set back gets there again."""
    path = saved(tmp_path, dict(weight=torch.ones(10000), history=HistoryBuffer([1.0], [1])))
    checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    (tmp_path / 'x.pth').write_bytes(b'')
    assert checkpoint['weight'].sum() == 10000


def test_training_checkpoints_load(tmp_path):
    path = saved(tmp_path, dict(
        state_dict=nn.Linear(2, 3).state_dict(),
        message_hub=dict(log_scalars=dict(loss=HistoryBuffer([1.0, 2.0], [1, 1])),
                         runtime_info=dict(score=np.float64(0.5)))))
    hub = load_checkpoint(nn.Linear(2, 3), path)['message_hub']
    assert type(hub['log_scalars']['loss']) is HistoryBuffer
    assert type(hub['log_scalars']['loss']._log_history) is np.ndarray
    assert hub['runtime_info']['score'] == 0.5


@STOCK_REFUSES
@pytest.mark.parametrize('zip_format', [True, False])
def test_a_hostile_file_runs_nothing(tmp_path, zip_format):
    path = saved(tmp_path, dict(state_dict=CreatesFile(tmp_path / 'created')),
                 _use_new_zipfile_serialization=zip_format)
    with pytest.raises(pickle.UnpicklingError,
                       match='was refused.*mkdir.*TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1') as error:
        load_checkpoint(nn.Linear(2, 3), path)
    assert isinstance(error.value, CheckpointError) and len(str(error.value).splitlines()) == 1
    assert not (tmp_path / 'created').exists()


@STOCK_REFUSES
def test_the_users_word_to_torch_counts(tmp_path, monkeypatch):
    path = saved(tmp_path, dict(rate=Fraction(1, 3)))
    with pytest.raises(pickle.UnpicklingError):
        CheckpointLoader.load_checkpoint(path)
    with torch.serialization.safe_globals([Fraction]):
        assert CheckpointLoader.load_checkpoint(path) == dict(rate=Fraction(1, 3))
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    assert CheckpointLoader.load_checkpoint(path) == dict(rate=Fraction(1, 3))


def registered(monkeypatch, before):
    """Which loader there is after an import that found ``before``."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', {**CheckpointLoader._schemes, '': before})
    register_loader()
    return CheckpointLoader._schemes['']


def test_where_the_loader_is_registered(monkeypatch):
    def users_own(filename, map_location):
        return {}

    version = type(torch.__version__)  # compares with tuples
    monkeypatch.setattr(torch, '__version__', version('2.6.0'))
    assert registered(monkeypatch, users_own) is users_own
    assert registered(monkeypatch, _STOCK) is load_from_local
    assert registered(monkeypatch, load_from_local) is load_from_local
    CheckpointLoader.register_scheme('', users_own, force=True)  # after the import
    assert CheckpointLoader._get_checkpoint_loader('a.pth') is users_own
    monkeypatch.setenv(SWITCH, '1')
    assert registered(monkeypatch, _STOCK) is _STOCK
    monkeypatch.delenv(SWITCH)
    monkeypatch.setattr(torch, '__version__', version('2.5.1'))
    assert registered(monkeypatch, _STOCK) is _STOCK
