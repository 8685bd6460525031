"""Runs variants through mmdet's tools, one after the other, and survives its own death.

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
from typing import NamedTuple, Optional, TextIO

from mmengine.config import Config

import gmconv_mmdet

from ...checkpoints.fetch import sha256
from ...files import FolderBusy, folder_lock, read_json, write_json, write_text
from ...openmmlab.mim_files import shipped
from ...preflight import datasets
from ...preflight.classes import head_classes
from . import history, preflight
from .paper import COCO_METRICS
from .processes import Interrupted, phase_mark, progress, run_supervised, tail
from .run_folder import SCHEMA, RunFolder, RunFolderError
from .variants import (
    Comparison,
    Variant,
    backbone_weights,
    config_hash,
    quietly,
    variant_config,
    write_initial_weights,
)

# How long to wait for the child of a killed driver. torchrun gives its workers 30 s to end.
LOCK_WAIT_SECONDS = 60
_TAIL_LINES = 25
_MMDET_METRICS = dict(zip(COCO_METRICS, ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')))


class LaunchOptions(NamedTuple):
    """Where processes run."""
    gpus: int = 1  # of this machine; 0: the CPU
    threads: Optional[int] = None  # of each process on the CPU; None leaves it to OpenMP
    jobs: int = 1  # runs at a time


class RunFailed(Exception):
    """One run can't be finished; the text says why."""


def launch_command(tool: Path, arguments: Sequence[str], gpus: int) -> list[str]:
    """The command that runs one of mmdet's tools; for several GPUs as mmdet's ``dist_train.sh``."""
    call = [str(tool), *arguments]
    if gpus < 2:
        return [sys.executable, *call]
    return [sys.executable, '-m', 'torch.distributed.run', '--standalone',
            f'--nproc_per_node={gpus}', *call, '--launcher', 'pytorch']


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
        comparison (Comparison): what runs are of.
        launch (LaunchOptions): where.
        screen (Screen): what the user sees.
        poll_seconds (float): how often a running process is looked after.
    """

    def __init__(self, comparison: Comparison, launch: LaunchOptions, screen: Screen,
                 poll_seconds: float = 1.0) -> None:
        self.comparison, self.launch, self.screen = comparison, launch, screen
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
        problems = preflight.check_gpus(self.launch.gpus)
        of_runs = [(run.variant, self.config(run.variant, run.seed)) for run in runs]
        problems += preflight.check_disk(runs[0].path.parent, len(runs), of_runs[-1][1])
        for _, cfg in of_runs:  # each seed may start from its own
            problems += preflight.check_start(cfg)
        configs = dict(of_runs)
        for cfg in {_data_of(cfg): cfg for cfg in configs.values()}.values():
            problems += preflight.check_training(cfg)
            problems += datasets.check_data(
                cfg, 'all' if image_mode == 'all' else 'heads',
                lambda what, i, total: self.screen.status(f'preflight: {what}, image {i}/{total}'),
                lambda text: self.screen.say(f'preflight: {text}'))
        # Both detectors of a backbone load the same.
        backbones = {str(cfg.model.get('backbone')): (variant, cfg)
                     for variant, cfg in configs.items()}
        for variant, cfg in backbones.values():
            problems += preflight.check_weights(cfg, variant.name)
        if problems:
            raise preflight.PreflightError(list(dict.fromkeys(problems)))

    def config(self, variant: Variant, seed: int) -> Config:
        """The config of a run, without its initial weights."""
        with quietly():
            return variant_config(variant, seed, self.comparison)

    def prepare(self, run: RunFolder) -> Config:
        """Make a run's folder, or take up the one that is there, and return the run's config.

        Raises:
            RunFolderError: the folder was begun with other settings.
        """
        with self._building:
            cfg = self.config(run.variant, run.seed)
            settings = dict(
                schema=SCHEMA, row=run.variant.name, seed=run.seed,
                baseline=run.variant.baseline, config=config_hash(cfg),
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
                self._write_start(run, cfg)
                write_text(run.config, cfg.pretty_text)
        return Config.fromfile(run.config)

    def _write_start(self, run: RunFolder, cfg: Config) -> None:
        """Initial weights in common with the baseline, unless the config brings a detector."""
        paired = 'the config\'s load_from: the whole detector'
        if not cfg.get('load_from'):
            baseline = self.config(self.comparison.baseline_of(run.variant), run.seed)
            with quietly():
                paired = write_initial_weights(cfg, baseline, run.initial)
            cfg.load_from = str(run.initial)
        write_json(run.path / 'paired.json', dict(initial_weights=paired))

    def commands(self, run: RunFolder) -> list[list[str]]:
        """The commands that are left for a run, for whoever wants to start them by hand."""
        cfg = self.prepare(run)
        last = cfg.train_cfg.max_epochs
        epoch, checkpoint = run.newest_checkpoint()
        train = [self._train_command(run, checkpoint)] if epoch < last else []
        # Not where this program looks for a test: whose checkpoint it is isn't known.
        return [*train, self._test_command(run, run.train_dir / f'epoch_{last}.pth',
                                           run.test_dir / 'by hand')]

    def _train_command(self, run: RunFolder, checkpoint: Path | None) -> list[str]:
        arguments = [str(run.config), '--work-dir', str(run.train_dir)]
        if checkpoint is not None:
            arguments += ['--resume', str(checkpoint)]
        return launch_command(shipped('tools/train.py', 'mmdet'), arguments, self.launch.gpus)

    def _test_command(self, run: RunFolder, checkpoint: Path, folder: Path) -> list[str]:
        arguments = [str(run.config), str(checkpoint), '--work-dir', str(folder)]
        return launch_command(shipped('tools/test.py', 'mmdet'), arguments, self.launch.gpus)

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
        epoch, checkpoint = run.newest_checkpoint()
        if epoch < last:
            self.screen.say(f'{place}: training, ' + (f'resumed after epoch {epoch} of {last}'
                                                      if epoch else f'{last} epochs'))
            self._launch(run, 'train', self._train_command(run, checkpoint), place, lock,
                         after_epoch=epoch)
            epoch, checkpoint = run.newest_checkpoint()
        if epoch < last:
            raise RunFailed(f'training ended without an error, but {run.train_dir} holds no '
                            f'complete checkpoint of epoch {last}')
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
            launcher=self.launch.gpus > 1, on_start=on_start,
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
            facts = self._facts(run, cfg, checkpoint)
        write_json(run.result, dict(
            schema=SCHEMA, row=run.variant.name, seed=run.seed, metrics=values, notes=notes,
            **facts,
            files={name: str(path.relative_to(run.path)) for name, path in relative.items()},
            checkpoint_sha256=sha256(checkpoint), config_sha256=sha256(run.config),
            val_annotations=str(annotations), val_images=len(read_json(annotations)['images']),
            val_annotations_sha256=sha256(annotations),
            batch_size=read_json(run.settings)['batch_size'], gpus=self.launch.gpus,
            threads=self.launch.threads, evaluator=cfg.test_evaluator.type,
            weights=backbone_weights(cfg), epochs=cfg.train_cfg.max_epochs,
            history=history.curves(run.train_dir),
            code=sorted({entry['code'] for entry in launches if 'code' in entry}),
            seconds=round(sum(entry.get('seconds', 0) for entry in launches), 1),
            environment=self._environment, finished=_now()))

    def _facts(self, run: RunFolder, cfg: Config, checkpoint: Path) -> dict:
        """What a result says beside metrics and files."""
        variant = run.variant
        paired = read_json(run.path / 'paired.json') or {}
        try:
            with quietly():
                samples = history.sample_detections(cfg, checkpoint)
        except Exception as error:  # pictures: no reason to lose a run, whatever the data are
            samples = [dict(error=f'{type(error).__name__}: {error}')]
        return dict(
            variant=variant.name, order=self.comparison.variants.index(variant),
            baseline=variant.baseline, base_config=variant.config.name,
            overrides=list(variant.overrides), shared_overrides=list(self.comparison.options),
            plain_twin=variant.is_plain_twin, paired=paired.get('initial_weights'),
            masks=dict(initial=history.trained_masks(run.initial, cfg) if run.initial.exists()
                       else [], final=history.trained_masks(checkpoint, cfg)),
            samples=samples)


def _data_of(cfg: Config) -> str:
    """What the checks of data look at, to check each data set once."""
    return str([(loader.dataset, loader.batch_size) for loader in
                (cfg.train_dataloader, cfg.val_dataloader)] + list(head_classes(cfg.model)))


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
