from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gmconv_mmdet.files import write_json
from gmconv_mmdet.lab.reproduce.run_folder import RunFolder, RunFolderError
from gmconv_mmdet.lab.reproduce.variants import Variant

GM = Variant('gm', Path('gm.py'))


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path, GM, 0)
    folder.train_dir.mkdir(parents=True)
    return folder


def save(path, numbers=100):
    torch.save(dict(weight=torch.arange(float(numbers)), meta=dict(epoch=1)), path)


def result_of(run, **other):
    return dict(schema=1, row=run.variant.name, seed=run.seed, **other)


def test_newest_checkpoint_passes_over_broken_ones_and_counts_by_number(run):
    assert run.newest_checkpoint() == (0, None)
    for epoch in (2, 9, 10):
        save(run.train_dir / f'epoch_{epoch}.pth')
    (run.train_dir / 'epoch_11.pth').write_bytes(b'half')
    (run.train_dir / 'best_epoch_12.pth').write_bytes(b'')
    (run.train_dir / 'last_checkpoint').write_text('')  # as a kill can leave it
    assert run.newest_checkpoint() == (10, run.train_dir / 'epoch_10.pth')


def test_state_follows_what_is_on_disk(run):
    assert run.state() == 'missing'
    run.settings.write_text('{}')
    assert run.state() == 'in progress'
    run.result.write_text('{"schema": 1, "row"')  # nobody writes half a result, but suppose
    assert run.state() == 'in progress'
    write_json(run.result, result_of(run))
    assert run.state() == 'done'


def test_a_foreign_result_is_refused(run):
    write_json(run.result, dict(result_of(run), seed=1))
    with pytest.raises(RunFolderError, match="not the result of gm seed 0"):
        run.read_result()
    write_json(run.result, dict(result_of(run), schema=2))
    with pytest.raises(RunFolderError, match='Move the folder away'):
        run.state()


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(entries=st.lists(st.dictionaries(st.text(), st.text(max_size=20), max_size=3), min_size=1),
       cut=st.integers(0, 200))
def test_launches_survive_a_line_cut_off_anywhere(tmp_path_factory, entries, cut):
    """All lines before the one that a kill cut off, and all after it, are still there."""
    run = RunFolder(tmp_path_factory.mktemp('work'), GM, 0)
    run.path.mkdir()
    for entry in entries:
        run.note_launch(**{f'k{key}': value for key, value in entry.items()})
    written = run.read_launches()
    content = run.launches.read_bytes()
    last = content[:-1].rfind(b'\n') + 1  # where the last line begins
    run.launches.write_bytes(content[:min(last + cut, len(content) - 2)])
    run.note_launch(event='after the kill')
    assert run.read_launches() == written[:-1] + [dict(event='after the kill')]
