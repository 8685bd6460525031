"""Checkpoints under kills, full disks and damage; each run is a real one of MMEngine's Runner."""
import logging
import os
import re
import resource
import shutil
import time

import pytest
import torch
from mmengine.hooks import CheckpointHook, Hook

from gmconv_mmdet.checkpoints import CheckpointError, read_checkpoint
from gmconv_mmdet.hooks import SafeCheckpointHook
from gmconv_mmdet.hooks.safe_checkpoint import written_files

from .small_runner import small_runner

STOCK = dict(type='CheckpointHook')


def train(folder, epochs=3, resume=False, hooks=(), load_from=None, **checkpoint):
    runner = small_runner(folder, max_epochs=epochs, resume=resume, hooks=hooks,
                          checkpoint=checkpoint, load_from=load_from)
    runner.train()
    return runner


def names(folder):
    """Checkpoints, parts of them and the pointer."""
    return sorted(path.name for path in folder.iterdir() if path.is_file()
                  and (path.suffix in ('.pth', '.part') or path.name == 'last_checkpoint'))


class Collect(logging.Handler):
    def __init__(self, records):
        super().__init__()
        self.records = records

    def emit(self, record):
        self.records.append(record.getMessage())


def train_listening(folder, epochs):
    """A resumed run and what it said."""
    runner, records = small_runner(folder, max_epochs=epochs, resume=True), []
    runner.logger.addHandler(Collect(records))
    runner.train()
    return runner, '\n'.join(records)


def copy_run(trained, folder):
    """A copy that knows of its own checkpoints only."""
    shutil.copytree(trained, folder)
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_3.pth'))
    return folder


def cut(path, share=0.7):
    content = path.read_bytes()
    path.write_bytes(content[:int(share * len(content))])


@pytest.mark.slow
@pytest.mark.parametrize('options', [dict(), dict(max_keep_ckpts=1), dict(max_keep_ckpts=2),
                                     dict(save_best='score', rule='greater', max_keep_ckpts=1)])
def test_files_are_those_of_mmengine(tmp_path, options):
    train(tmp_path / 'ours', **options)
    train(tmp_path / 'stock', **STOCK, **options)
    assert names(tmp_path / 'ours') == names(tmp_path / 'stock')
    ours, stock = (read_checkpoint(tmp_path / name / 'epoch_3.pth') for name in ('ours', 'stock'))
    assert ours.keys() == stock.keys()
    torch.testing.assert_close(ours['state_dict'], stock['state_dict'], rtol=0, atol=0)
    assert (ours['message_hub']['runtime_info'].get('keep_ckpt_ids')
            == stock['message_hub']['runtime_info'].get('keep_ckpt_ids'))
    pointed = (tmp_path / 'ours/last_checkpoint').read_text()
    assert pointed == str(tmp_path / 'ours/epoch_3.pth')


class FullDisk(Hook):
    """From an epoch on no file may grow beyond 100 kB: writes fail half-way, as on a full disk."""

    def __init__(self, epoch):
        self.epoch = epoch

    def after_train_epoch(self, runner):
        if runner.epoch + 1 == self.epoch:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))


@pytest.fixture
def limits():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
@pytest.mark.parametrize('options', [
    dict(max_keep_ckpts=1), dict(max_keep_ckpts=1, save_best='score', rule='less')])
def test_full_disk_is_an_error_that_loses_nothing(tmp_path, limits, options):
    with pytest.raises(OSError, match=r'epoch_2\.pth could not be written \(File too large\)\. '
                                      r'Earlier checkpoints are untouched.*--resume'):
        train(tmp_path, hooks=[FullDisk(2)], **options)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, ) * 2)
    kept = names(tmp_path)
    assert 'epoch_1.pth' in kept and not any('epoch_2' in name or 'part' in name for name in kept)
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_1.pth')
    assert train(tmp_path, resume=True, **options).epoch == 3


def damage_newest(folder):
    cut(folder / 'epoch_3.pth')
    return 'epoch_3.pth is cut short or damaged'


def flip_a_bit(folder):
    content = bytearray((folder / 'epoch_3.pth').read_bytes())
    content[len(content) // 2] ^= 1
    (folder / 'epoch_3.pth').write_bytes(content)
    return 'epoch_3.pth is cut short or damaged'


def remove_newest(folder):
    (folder / 'epoch_3.pth').unlink()
    return 'epoch_3.pth, which is not there'


def note_the_one_before(folder):
    """As a kill between the two leaves them."""
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_2.pth'))
    os.utime(folder / 'epoch_3.pth', (time.time() + 1, ) * 2)
    return 'last_checkpoint was not written any more'


def remove_pointer(folder):
    (folder / 'last_checkpoint').unlink()
    return 'last_checkpoint is missing or empty'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('trained') / 'run'
    train(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('damage, resumed_at', [
    (damage_newest, 2), (flip_a_bit, 2), (remove_newest, 2), (remove_pointer, 3),
    (note_the_one_before, 3)])
def test_resume_takes_the_newest_whole_one_and_says_so(trained, tmp_path, damage, resumed_at):
    folder = copy_run(trained, tmp_path / 'run')
    told = damage(folder)
    runner, said = train_listening(folder, epochs=4)
    assert re.search(told, said), said
    assert f'resuming from {folder}/epoch_{resumed_at}.pth' in said
    assert runner.epoch == 4 and len(runner.message_hub.get_scalar('train/loss').data[0]) == 16
    assert read_checkpoint(folder / 'epoch_4.pth')['meta']['epoch'] == 4


def test_nothing_whole_is_an_error_not_a_fresh_start(trained, tmp_path):
    folder = copy_run(trained, tmp_path / 'run')
    for path in folder.glob('*.pth'):
        cut(path, 0.5)
    with pytest.raises(CheckpointError, match=r'nothing to resume from .*epoch_\d\.pth are cut '
                                              r'short or damaged\. To start anew'):
        train(folder, resume=True)
    for path in folder.glob('*.pth'):
        path.unlink()
    with pytest.raises(CheckpointError, match='which is not there'):
        train(folder, resume=True)
    (folder / 'last_checkpoint').unlink()
    assert train(folder, epochs=1, resume=True).epoch == 1  # nothing was ever there: from the start


def test_named_damaged_checkpoint_is_refused(trained, tmp_path):
    folder = copy_run(trained, tmp_path / 'run')
    cut(folder / 'epoch_3.pth')
    with pytest.raises(CheckpointError, match='cut short or damaged.*--resume without a path'):
        train(folder, resume=True, load_from=str(folder / 'epoch_3.pth'))
    assert train(folder, resume=True, load_from=str(folder / 'epoch_2.pth')).epoch == 3


def test_parts_left_by_a_kill_go(tmp_path):
    for name in ('.epoch_7.pth.part', '.best_score_epoch_1.pth.part', '.notes.part'):
        (tmp_path / name).write_bytes(b'half')
    train(tmp_path, epochs=1)
    assert names(tmp_path) == ['.notes.part', 'epoch_1.pth', 'last_checkpoint']


class OtherCheckpointHook(CheckpointHook):
    pass


@pytest.mark.parametrize('kind, becomes', [(CheckpointHook, SafeCheckpointHook),
                                           (OtherCheckpointHook, OtherCheckpointHook),
                                           (SafeCheckpointHook, SafeCheckpointHook)])
def test_safe_checkpoints_exchanges_mmengines_own_hook_only(trained, tmp_path, kind, becomes):
    folder = copy_run(trained, tmp_path / 'run')
    if becomes is SafeCheckpointHook:
        cut(folder / 'epoch_3.pth')
    runner, records = small_runner(folder, max_epochs=4, resume=True, checkpoint=dict(
        type=kind, max_keep_ckpts=3), hooks=[dict(type='SafeCheckpoints')]), []
    runner.logger.addHandler(Collect(records))
    runner.train()
    hook, = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    assert type(hook) is becomes and hook.max_keep_ckpts == 3
    said = '\n'.join(records)
    assert ('SafeCheckpoints leaves OtherCheckpointHook' in said) is (kind is OtherCheckpointHook)
    assert ('resuming from' in said) is (becomes is SafeCheckpointHook)


TEMPLATES = ['{:03d}.pth', '{}', 'epoch_{0}_of_{0}', '{}+[a].pth', 'sub/epoch_{}.pth',
             '{0:04}/model.pth', './epoch{}.pth', 'always.pth']


@pytest.mark.parametrize('template', TEMPLATES)
def test_files_of_every_template_are_found(tmp_path, template):
    folder = tmp_path / 'of [a] run'
    steps = (1, 12, 3000, 90000)
    expected = {folder / template.format(step) for step in steps}
    for path in (*expected, folder / 'config.py', folder / 'last_checkpoint',
                 folder / 'best_score_epoch_12.pth', folder / 'sub/epoch_last.pth'):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('')
        path.with_name(f'.{path.name}.part').write_text('')
    assert set(written_files(folder, template)) == expected
    assert set(written_files(folder, template, parts=True)) == {
        path.with_name(f'.{path.name}.part') for path in expected}


@pytest.mark.slow
@pytest.mark.parametrize('template', ['{:03d}.pth', '{}/model.pth', 'always.pth'])
def test_every_template_of_mmengine_trains_and_resumes(tmp_path, template):
    options = dict(filename_tmpl=template, max_keep_ckpts=1)
    train(tmp_path / 'run', epochs=2, **options)
    first, second = (tmp_path / 'run' / template.format(epoch) for epoch in (1, 2))
    assert second.is_file() and (first == second or not first.exists())
    assert (tmp_path / 'run/last_checkpoint').read_text() == str(second)
    assert not list(tmp_path.rglob('*.part'))
    (tmp_path / 'run').rename(tmp_path / 'moved')
    runner = train(tmp_path / 'moved', epochs=3, resume=True, **options)
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 12


@pytest.mark.slow
def test_symbolic_links_stay(tmp_path):
    """Of the work dir, of a checkpoint, of the pointer: what they point to is written, as by
    MMEngine."""
    disk, run = tmp_path / 'disk', tmp_path / 'run'
    (disk / 'run').mkdir(parents=True)
    run.symlink_to(disk / 'run')
    (disk / 'old.pth').write_bytes(b'old')
    (run / 'epoch_1.pth').symlink_to(disk / 'old.pth')
    (run / 'epoch_2.pth').symlink_to(disk / 'new.pth')  # not there yet
    (run / 'last_checkpoint').symlink_to(disk / 'pointer')
    train(run, epochs=2)
    assert all((run / name).is_symlink() for name in ('epoch_1.pth', 'epoch_2.pth',
                                                      'last_checkpoint'))
    assert run.is_symlink() and not list(tmp_path.rglob('*.part'))
    assert (disk / 'pointer').read_text() == str(run / 'epoch_2.pth')
    for name, epoch in (('old.pth', 1), ('new.pth', 2)):
        assert not (disk / name).is_symlink()
        assert read_checkpoint(disk / name)['meta']['epoch'] == epoch
    assert train(run, epochs=3, resume=True).epoch == 3
