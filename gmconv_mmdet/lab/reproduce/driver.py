"""Runs the rows of a table through mmdet's tools, one after the other, and survives its own death.

All state is in the runs' folders (:mod:`.run_folder`). The driver only ever asks what is there and
does what is missing: config, epochs, test, result. So it may be killed and started again at will.
"""
from __future__ import annotations

import datetime
import os
import shlex
import signal
import site
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Optional, TextIO, Tuple

from mmengine.config import Config

import gmconv_mmdet

from ...checkpoints.fetch import sha256
from ...files import FolderBusy, folder_lock, read_json, write_json, write_text
from ...openmmlab.mim_files import shipped
from . import history, preflight
from .paper import COCO_METRICS
from .processes import Interrupted, phase_mark, progress, run_supervised, tail
from .run_folder import SCHEMA, Recipe, RunFolder, RunFolderError
from .table import REHEARSAL_EPOCHS, backbone_weights

LAUNCHERS = ('none', 'pytorch', 'slurm')
# How long to wait for the child of a killed driver. torchrun gives its workers 30 s to end.
LOCK_WAIT_SECONDS = 60
_TAIL_LINES = 25
_MMDET_METRICS = dict(zip(COCO_METRICS, ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')))


class LaunchOptions(NamedTuple):
    """Where processes run."""
    gpus: int = 1  # in total; 0: the CPU
    launcher: str = 'none'
    gpus_per_node: int = 8  # Slurm
    srun_args: Tuple[str, ...] = ()  # Slurm: partition and the like
    nodes: int = 1  # torchrun: on more than one, trainings are started by hand
    rendezvous: Optional[str] = None  # torchrun on several nodes: host:port of one of them
    threads: Optional[int] = None  # of each process on the CPU; None leaves it to OpenMP
    jobs: int = 1  # runs at a time

    def on_this_node(self) -> LaunchOptions:
        """The part of torchrun on one of several nodes; Slurm starts processes everywhere."""
        return self._replace(gpus=self.gpus // self.nodes, nodes=1)


class RunFailed(Exception):
    """One run can't be finished; the text says why."""


def launch_command(tool: Path, arguments: Sequence[str], options: LaunchOptions) -> list[str]:
    """The command that runs one of mmdet's tools, as mmdet's own ``dist_train.sh`` and
    ``slurm_train.sh`` do."""
    call = [str(tool), *arguments]
    if options.launcher == 'none':
        return [sys.executable, *call]
    if options.launcher == 'pytorch':
        # Several nodes: the same command on each, whichever is first makes the others' ranks.
        where = (['--standalone'] if options.nodes == 1 else
                 [f'--nnodes={options.nodes}', '--rdzv_backend=c10d',
                  f'--rdzv_endpoint={options.rendezvous}'])
        return [sys.executable, '-m', 'torch.distributed.run', *where,
                f'--nproc_per_node={options.gpus // options.nodes}', *call, '--launcher', 'pytorch']
    per_node = min(options.gpus, options.gpus_per_node)
    return ['srun', f'--ntasks={options.gpus}', f'--ntasks-per-node={per_node}',
            f'--gres=gpu:{per_node}', '--kill-on-bad-exit=1', *options.srun_args,
            sys.executable, '-u', *call, '--launcher', 'slurm']


def child_environment(gpus: int, threads: int | None = None) -> dict[str, str]:
    """The environment of mmdet's tools: they find this package, and no GPU where none is wanted."""
    env = dict(os.environ, PYTHONUNBUFFERED='1')
    root = str(Path(gmconv_mmdet.__file__).resolve().parents[1])
    if root not in site.getsitepackages():  # which must not come before the standard library
        env['PYTHONPATH'] = os.pathsep.join(filter(None, [root, env.get('PYTHONPATH')]))
    if gpus == 0:
        env['CUDA_VISIBLE_DEVICES'] = ''
    if threads is not None:
        env['OMP_NUM_THREADS'] = str(threads)
    return env


class Screen:
    """Messages of all runs. Of progress, one line every half minute."""

    def __init__(self, stream: TextIO, every_seconds: float = 30) -> None:
        self.stream, self.every_seconds = stream, every_seconds
        self._shown_at = -every_seconds

    def say(self, text: str) -> None:
        self.stream.write(text + '\n')  # one call: several runs speak
        self.stream.flush()

    def status(self, text: str) -> None:
        if time.monotonic() - self._shown_at >= self.every_seconds:
            self._shown_at = time.monotonic()
            self.say(text)


class Driver:
    """Makes runs.

    Args:
        recipe (Recipe): what runs are made of: the rows of a table, or a config and its variants.
        launch (LaunchOptions): where.
        screen (Screen): what the user sees.
        poll_seconds (float): how often a running process is looked after.
    """

    def __init__(self, recipe: Recipe, launch: LaunchOptions, screen: Screen,
                 poll_seconds: float = 1.0) -> None:
        self.recipe, self.launch, self.screen = recipe, launch, screen
        self.poll_seconds = poll_seconds
        self.results: Path | None = None  # finished runs' results are copied there
        self.code_version = history.code_version()
        self._environment: dict[str, str] | None = None
        # Models are built under one lock: random generators and registries are the process's own.
        self._building = threading.Lock()
        self._stopped: Interrupted | None = None  # for runs in other threads

    def check(self, runs: Sequence[RunFolder], image_mode: str = 'sample') -> None:
        """Look for all that would break these runs.

        Raises:
            PreflightError: with all problems.
        """
        problems = preflight.check_gpus(self.launch.on_this_node().gpus, self.launch.launcher)
        problems += preflight.check_disk(runs[0].path.parent, [getattr(run.row, 'detector', None)
                                                               for run in runs])
        of_runs = [(run.row, self.recipe.config(run)) for run in runs]
        for _, cfg in of_runs:  # each seed may start from its own
            problems += preflight.check_start(cfg)
        configs = dict(of_runs)
        for cfg in {preflight.data_of(cfg): cfg for cfg in configs.values()}.values():
            problems += preflight.check_training(cfg)
            problems += preflight.check_data(
                cfg, image_mode,
                lambda what, i, total: self.screen.status(f'preflight: {what}, image {i}/{total}'),
                self.recipe.expected_images(runs[0].rehearsal),
                lambda text: self.screen.say(f'preflight: {text}'))
        # Both detectors of a backbone load the same.
        backbones = {str(cfg.model.get('backbone')): (row, cfg) for row, cfg in configs.items()}
        for row, cfg in backbones.values():
            problems += preflight.check_weights(cfg, row.name)
        if problems:
            raise preflight.PreflightError(list(dict.fromkeys(problems)))

    def prepare(self, run: RunFolder) -> Config:
        """Make a run's folder, or take up the one that is there, and return the run's config.

        Raises:
            RunFolderError: the folder was begun with other settings.
        """
        with self._building:
            cfg = self.recipe.config(run)
            settings = dict(
                schema=SCHEMA, row=run.row.name, seed=run.seed, rehearsal=run.rehearsal,
                **self.recipe.settings(run, cfg),
                batch_size=max(1, self.launch.gpus) * cfg.train_dataloader.batch_size,
                weights=backbone_weights(cfg))
            run.path.mkdir(parents=True, exist_ok=True)
            before = read_json(run.settings)
            if before is None:
                write_json(run.settings, dict(settings, begun=_now(), code=self.code_version))
            else:
                changed = [f'{key} was {before.get(key)!r}, now {value!r}'
                           for key, value in settings.items() if before.get(key) != value]
                if changed:
                    raise RunFolderError(f'{run.path} was begun with other settings: '
                                         f'{"; ".join(changed)}. Use those, name another folder of '
                                         'runs, or move this one away')
            if not run.config.exists():
                self.recipe.complete(run, cfg)
                write_text(run.config, cfg.pretty_text)
        return Config.fromfile(run.config)

    def commands(self, run: RunFolder) -> list[list[str]]:
        """The commands that are left for a run, for whoever wants to start them by hand."""
        cfg = self.prepare(run)
        last = cfg.train_cfg.max_epochs
        epoch, checkpoint = run.newest_checkpoint()
        train = [self._train_command(run, last, last, checkpoint)] if epoch < last else []
        # Not where this program looks for a test: whose checkpoint it is isn't known.
        return [*train, self._test_command(run, run.train_dir / f'epoch_{last}.pth',
                                           run.test_dir / 'by hand')]

    def _train_command(self, run: RunFolder, until: int, last: int,
                       checkpoint: Path | None) -> list[str]:
        arguments = [str(run.config), '--work-dir', str(run.train_dir)]
        if checkpoint is not None:
            arguments += ['--resume', str(checkpoint)]
        if until != last:
            arguments += ['--cfg-options', f'train_cfg.max_epochs={until}']
        return launch_command(shipped('tools/train.py', 'mmdet'), arguments, self.launch)

    def _test_command(self, run: RunFolder, checkpoint: Path, folder: Path) -> list[str]:
        arguments = [str(run.config), str(checkpoint), '--work-dir', str(folder)]
        return launch_command(shipped('tools/test.py', 'mmdet'), arguments, self.launch.on_this_node())

    def run(self, runs: Sequence[RunFolder], keep_going: bool = False) -> list[RunFolder]:
        """Make all runs that are not finished.

        Args:
            runs (Sequence[RunFolder]): in this order.
            keep_going (bool): after a failure go on with the next run.

        Returns:
            list[RunFolder]: those that failed; without ``keep_going`` at most one.

        Raises:
            Interrupted: told to stop, see :func:`~.processes.signals_raise`.
        """
        failed: list[RunFolder] = []

        def make(i: int, run: RunFolder) -> None:
            if failed and not keep_going:
                return
            place = f'[{i}/{len(runs)}] {run.title}'
            try:
                self._make(run, place)
            except (RunFailed, RunFolderError, FolderBusy) as error:
                failed.append(run)
                self.screen.say(f'{place} failed: {error}')

        if self.launch.jobs == 1:
            for i, run in enumerate(runs, 1):
                make(i, run)
            return failed
        with ThreadPoolExecutor(self.launch.jobs) as pool:
            made = [pool.submit(make, i, run) for i, run in enumerate(runs, 1)]
            try:
                for one in made:
                    one.result()
            except BaseException as error:
                self._stopped = error if isinstance(error, Interrupted) else Interrupted(
                    signal.SIGTERM)
                for one in made:
                    one.cancel()
                raise
        return failed

    def _make(self, run: RunFolder, place: str) -> None:
        if run.read_result() is not None:
            self._keep(run)
            self.screen.say(f'{place}: done before')
            return
        run.path.mkdir(parents=True, exist_ok=True)
        with folder_lock(run.lock, LOCK_WAIT_SECONDS, self.screen.say) as lock:
            if run.read_result() is not None:  # by another driver, while this one waited
                self.screen.say(f'{place}: done')
                return
            cfg = self.prepare(run)
            checkpoint = self._train(run, cfg, place, lock)
            metrics = self._test(run, checkpoint, place, lock)
            self._write_result(run, cfg, checkpoint, metrics)
        result = run.read_result()
        self._keep(run)
        notes = ''.join(f' ({note})' for note in result['notes'])
        self.screen.say(f'{place}: done, AP {result["metrics"]["AP"]}{notes}')

    def _keep(self, run: RunFolder) -> None:
        if self.results is not None:
            self.results.mkdir(parents=True, exist_ok=True)
            write_json(self.results / f'{run.path.name}.json', run.read_result())

    def _train(self, run: RunFolder, cfg: Config, place: str, lock: int) -> Path:
        """Train what is left; returns the last epoch's checkpoint."""
        last = cfg.train_cfg.max_epochs
        # A rehearsal stops once on its way, so that every row is resumed.
        targets = range(1, REHEARSAL_EPOCHS + 1) if run.rehearsal else [last]
        epoch, checkpoint = run.newest_checkpoint()
        for until in targets:
            if epoch >= until:
                continue
            if self.launch.nodes > 1:
                command = shlex.join(self._train_command(run, last, last, checkpoint))
                raise RunFailed('training on several nodes is started by hand. Give this on each '
                                'of them, and when it has ended this program once more:\n'
                                f'    {command}')
            self.screen.say(f'{place}: training, ' + (f'resumed after epoch {epoch} of {last}'
                                                      if epoch else f'{last} epochs'))
            self._launch(run, 'train', self._train_command(run, until, last, checkpoint), place,
                         lock, after_epoch=epoch)
            epoch, checkpoint = run.newest_checkpoint()
            if epoch < until:
                raise RunFailed(f'training ended without an error, but {run.train_dir} holds no '
                                f'complete checkpoint of epoch {until}')
        return checkpoint

    def _test(self, run: RunFolder, checkpoint: Path, place: str, lock: int) -> dict:
        """Metrics of the last checkpoint, from a test that has been made or a new one."""
        # A folder a checkpoint, by content: no other checkpoint's metrics are taken for its own.
        folder = run.test_dir / sha256(checkpoint)[:16]
        metrics = read_test_metrics(folder)
        if metrics is None:
            self.screen.say(f'{place}: testing')
            self._launch(run, 'test', self._test_command(run, checkpoint, folder), place, lock)
            metrics = read_test_metrics(folder)
        if metrics is None:
            raise RunFailed(f'the test ended without an error, but left no metrics in {folder}')
        return metrics

    def _launch(self, run: RunFolder, phase: str, command: list[str], place: str, lock: int,
                **facts: object) -> None:
        with run.output.open('a', encoding='utf-8') as output:
            output.write(phase_mark(phase, command))
        begun = time.monotonic()

        def on_start(pid: int) -> None:
            run.note_launch(event='start', time=_now(), phase=phase, pid=pid, driver=os.getpid(),
                            code=self.code_version, command=command, **facts)

        status = run_supervised(
            command, run.output, child_environment(self.launch.gpus, self.launch.threads),
            lock, lambda: self._show(run, place),
            launcher=self.launch.launcher != 'none', on_start=on_start,
            poll_seconds=self.poll_seconds)
        run.note_launch(event='end', time=_now(), phase=phase, status=status,
                        seconds=round(time.monotonic() - begun, 1))
        if status != 0:
            how = (f'was killed by {signal.Signals(-status).name} (SIGKILL often means: out of '
                   'memory)' if status < 0 else f'ended with status {status}')
            last_lines = '\n'.join('    ' + line
                                   for line in tail(run.output, _TAIL_LINES).splitlines())
            raise RunFailed(f'{phase} {how}. The end of {run.output}:\n{last_lines}\n'
                            'To continue, mend the cause and give the same command again: finished '
                            f'runs are skipped, this one goes on after epoch '
                            f'{run.newest_checkpoint()[0]}. The command that failed:\n'
                            f'    {shlex.join(command)}')

    def _show(self, run: RunFolder, place: str) -> None:
        if self._stopped is not None:
            raise self._stopped
        self.screen.status(f'{place}: {progress(run.output)}')

    def _write_result(self, run: RunFolder, cfg: Config, checkpoint: Path, metrics: dict) -> None:
        if self._environment is None:
            self._environment = history.environment()
        values, notes = coco_percentages(metrics)
        launches = run.read_launches()
        annotations = Path(cfg.test_evaluator.ann_file)
        relative = {'config': run.config, 'output': run.output, 'launches': run.launches,
                    'checkpoint': checkpoint}
        with self._building:
            facts = self.recipe.record(run, cfg, checkpoint)
        write_json(run.result, dict(
            schema=SCHEMA, row=run.row.name, seed=run.seed, rehearsal=run.rehearsal,
            metrics=values, notes=notes, **facts,
            files={name: str(path.relative_to(run.path)) for name, path in relative.items()},
            checkpoint_sha256=sha256(checkpoint), config_sha256=sha256(run.config),
            val_annotations=str(annotations), val_annotations_sha256=sha256(annotations),
            batch_size=read_json(run.settings)['batch_size'], gpus=self.launch.gpus,
            threads=self.launch.threads, evaluator=cfg.test_evaluator.type,
            weights=backbone_weights(cfg), epochs=cfg.train_cfg.max_epochs,
            history=history.curves(run.train_dir),
            code=sorted({entry['code'] for entry in launches if 'code' in entry}),
            seconds=round(sum(entry.get('seconds', 0) for entry in launches), 1),
            environment=self._environment, finished=_now()))


def read_test_metrics(test_dir: Path) -> dict | None:
    """What the newest finished test under ``test_dir`` reported; None without any.

    mmdet's test writes ``<time>/<time>.json`` when it is through.
    """
    for path in sorted(test_dir.glob('*/*.json'), reverse=True):
        if path.stem == path.parent.name and (metrics := read_json(path)) is not None:
            return metrics
    return None


def coco_percentages(metrics: dict) -> tuple[dict[str, float | None], list[str]]:
    """COCO metrics of mmdet in the paper's names and unit (per cent), and notes on odd ones.

    Without a single detection mmdet reports no metric at all: that is an AP of 0. A size of which
    the data have no object has no AP (mmdet: -1): None.
    """
    if f'coco/bbox_{_MMDET_METRICS["AP"]}' not in metrics:
        return dict.fromkeys(COCO_METRICS, 0.0), ['no detection at all: mmdet reported no metric, '
                                                  'counted as 0']
    values: dict[str, float | None] = {}
    for name, mmdet_name in _MMDET_METRICS.items():
        value = metrics[f'coco/bbox_{mmdet_name}']
        values[name] = round(100 * value, 1) if value >= 0 else None
    absent = [name for name, value in values.items() if value is None]
    return values, [f'{", ".join(absent)}: no such object in the data'] if absent else []


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds')
