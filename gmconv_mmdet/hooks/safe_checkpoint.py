"""Checkpoints that a kill at any moment, a full disk or a power cut can't spoil."""
from __future__ import annotations

import contextlib
import glob
import os
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.fileio import get_file_backend
from mmengine.fileio.backends import LocalBackend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..checkpoints.checkpoint_file import CheckpointError
from ..checkpoints.whole_checkpoint import (
    ZIP_START,
    first_whole,
    is_whole_checkpoint,
    read_pointer,
    resume_candidates,
)
from ..files import part_name, rename_synced, write_text
from ..openmmlab.private_api import resumes, start_checkpoint
from ..openmmlab.start_weights import leave_out_start_weights

POINTER = 'last_checkpoint'


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``, safe against kills. Takes the same arguments, writes the same
    files under the same names::

        default_hooks = dict(checkpoint=dict(type='SafeCheckpointHook'))

    or, where ``default_hooks`` are a base config's, by :class:`SafeCheckpoints`.

    What differs:

    * A checkpoint is written under another name (``.epoch_3.pth.part``), flushed to the disk and
      renamed. Under its own name it is there in whole or not at all; one that is replaced stays
      until then. MMEngine 0.10.7 writes into the file itself.
    * ``last_checkpoint`` is written in the same way, when the checkpoint is there. MMEngine empties
      it first.
    * Outdated checkpoints (``max_keep_ckpts``, an earlier best one) are removed when the new one is
      complete. MMEngine removes them first: a kill or a full disk leaves ``max_keep_ckpts=1``
      without any. The disk needs room for one more than ``max_keep_ckpts``.
    * ``--resume`` does not load the weights in ``init_cfg`` once more: their files may be gone.
    * ``--resume`` without a path looks whether the last checkpoint is complete (each part's
      checksum), warns where it is not, and takes the one before. MMEngine fails on it; where
      ``last_checkpoint`` is missing it starts anew, over what is there. A complete checkpoint
      written after ``last_checkpoint`` counts, too: the kill came in between.
    * ``--resume`` with the path of a damaged one says so.

    A symbolic link that stands under a checkpoint's name, or ``last_checkpoint``'s, stays: what it
    points to is replaced. Where the file system refuses ``fsync`` files are renamed without.

    For checkpoints in the local file system; with another backend it is MMEngine's hook.

    Raises:
        CheckpointError: nothing whole to resume from, though there are checkpoints.
        OSError: a checkpoint can't be written; its text says what stays and how to go on.
    """

    def before_run(self, runner: Runner) -> None:
        """Before MMEngine looks for what to resume from."""
        if not resumes(runner):
            return
        checkpoint = start_checkpoint(runner)
        if self._is_local(runner):
            if is_main_process():
                if checkpoint is None:
                    self._point_at_whole(runner)
                else:
                    _refuse_damaged(Path(checkpoint), self._folder(runner))
            barrier()
        if checkpoint or read_pointer(Path(runner.work_dir) / POINTER):
            leave_out_start_weights(runner.model)

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        if self._is_local(runner) and is_main_process():
            for path in [*written_files(self.out_dir, self.filename_tmpl, parts=True),
                         *Path(self.out_dir).glob(part_name('best_*'))]:
                path.unlink()

    def _is_local(self, runner: Runner) -> bool:
        backend = getattr(self, 'file_backend', None) or get_file_backend(
            self.out_dir or runner.work_dir, backend_args=self.backend_args)
        return isinstance(backend, LocalBackend)

    def _folder(self, runner: Runner) -> Path:
        """Where checkpoints are, before ``before_train`` has settled it as here."""
        work_dir = Path(runner.work_dir)
        return work_dir if self.out_dir is None else Path(self.out_dir) / work_dir.name

    def _point_at_whole(self, runner: Runner) -> None:
        pointer = Path(runner.work_dir) / POINTER
        folder = self._folder(runner)
        named = read_pointer(pointer)
        whole, damaged = first_whole(
            resume_candidates(pointer, folder, written_files(folder, self.filename_tmpl)))
        if whole is None and (damaged or named):
            raise CheckpointError(
                f'nothing to resume from in {folder}: '
                + (f'{_names(damaged)} cut short or damaged' if damaged else
                   f'{pointer} names {named}, which is not there')
                + '. To start anew, move it away or train without --resume')
        if damaged:
            runner.logger.warning(f'{_names(damaged)} cut short or damaged, as by a kill or a full '
                                  f'disk: resuming from {whole} instead')
        if whole is not None and str(whole) != named:
            if not damaged:
                why = ('is missing or empty' if not named else 'was not written any more'
                       if Path(named).is_file() else f'names {named}, which is not there')
                runner.logger.warning(f'{pointer} {why}: resuming from {whole}, the last written')
            write_text(pointer, str(whole))

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if not self._is_local(runner):
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        outdated: list[int] = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            kept = [*self.keep_ckpt_ids, step]
            outdated, kept = kept[:-self.max_keep_ckpts], kept[-self.max_keep_ckpts:]
            self.keep_ckpt_ids = deque(kept, self.max_keep_ckpts)
            runner.message_hub.update_info('keep_ckpt_ids', kept)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = str(Path(self.out_dir) / name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        _WholeSaves(runner).save_checkpoint(
            self.out_dir, name, self.file_client_args, save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler, meta=meta, by_epoch=self.by_epoch,
            backend_args=self.backend_args, **self.args)
        if is_main_process():
            write_text(Path(runner.work_dir) / POINTER, self.last_ckpt)
            # A template need not give every step a name of its own.
            for old in {self.filename_tmpl.format(step) for step in outdated} - {name}:
                (Path(self.out_dir) / old).unlink(missing_ok=True)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self._is_local(runner):
            super()._save_best_checkpoint(runner, metrics)
            return
        with self._removals_at_the_end():
            super()._save_best_checkpoint(_WholeSaves(runner), metrics)

    @contextlib.contextmanager
    def _removals_at_the_end(self) -> Iterator[None]:
        backend = self.file_backend
        self.file_backend = _LateRemovals(backend)
        try:
            yield
            # After a resume the best one may have been found, and written, once more.
            best = {getattr(self, 'best_ckpt_path', None),
                    *getattr(self, 'best_ckpt_path_dict', {}).values()}
            for path in self.file_backend.removed:
                if path not in best:
                    backend.remove(path)
        finally:
            self.file_backend = backend


@HOOKS.register_module()
class SafeCheckpoints(Hook):
    """Makes the run's own ``CheckpointHook`` a :class:`SafeCheckpointHook`, with its settings::

        custom_hooks = [dict(type='SafeCheckpoints')]

    For base files: MMEngine merges no two of them that both have ``default_hooks``.
    """

    def before_run(self, runner: Runner) -> None:
        for hook in runner.hooks:
            if type(hook) is CheckpointHook:
                hook.__class__ = SafeCheckpointHook  # later in the list: has its before_run called
            elif isinstance(hook, CheckpointHook) and not isinstance(hook, SafeCheckpointHook):
                runner.logger.warning(f'SafeCheckpoints leaves {type(hook).__name__} as it is: it '
                                      'makes MMEngine\'s own CheckpointHook safe only')


class _WholeSaves:
    """A runner that saves checkpoints in whole or not at all. All else is the runner's own."""

    def __init__(self, runner: Runner | _WholeSaves) -> None:
        self._runner = runner._runner if isinstance(runner, _WholeSaves) else runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        path = Path(out_dir) / filename
        target = Path(os.path.realpath(path))
        temporary = target.with_name(part_name(target.name))
        try:
            # Of all processes only the main one writes.
            self._runner.save_checkpoint(str(target.parent), temporary.name, *args, **kwargs)
            if is_main_process():
                rename_synced(temporary, target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OSError(
                error.errno, f'{path} could not be written ({error.strerror or error}). Earlier '
                'checkpoints are untouched: make room or mend the disk, and go on with --resume'
            ) from error


class _LateRemovals:
    """A file backend that only notes what is to be removed."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        self.removed: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self.removed.append(path)


def written_files(folder: str | Path, template: str, parts: bool = False) -> list[Path]:
    """Files in a folder under the names that a ``filename_tmpl`` gives to epochs or iterations.

    Args:
        folder (str | Path): of the checkpoints.
        template (str): as MMEngine takes it, numbers in decimal digits: ``'epoch_{}.pth'``,
            ``'{:05d}'``, ``'{0}/model.pth'``, also without any ``{}``.
        parts (bool): those that were being written instead, see :func:`part_name`.
    """
    template = os.path.normpath(template)
    own_name = re.compile(re.sub(r'\\{.*?\\}', r'\\d+', re.escape(template)))
    subfolder, name = os.path.split(re.sub(r'\{.*?\}', '*', glob.escape(template)))
    files = []
    for path in Path(folder).glob(os.path.join(subfolder, part_name(name) if parts else name)):
        own = path.with_name(path.name[1:-len('.part')]) if parts else path
        if path.is_file() and own_name.fullmatch(str(own.relative_to(folder))):
            files.append(path)
    return files


def _refuse_damaged(path: Path, folder: Path) -> None:
    """Raise a CheckpointError for a file of torch's that is not complete."""
    if not path.is_file():  # a URL, or MMEngine's to complain about
        return
    with path.open('rb') as file:
        start = file.read(len(ZIP_START))
    if start in (b'', ZIP_START) and not is_whole_checkpoint(path):
        raise CheckpointError(f'{path} is cut short or damaged, as by a kill or a full disk: '
                              'resume from an earlier checkpoint, or give --resume without a path, '
                              f'which takes the newest complete one in {folder}')


def _names(paths: list[Path]) -> str:
    return ', '.join(str(path) for path in paths) + (' is' if len(paths) == 1 else ' are')
