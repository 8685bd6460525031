"""The stages: each writes one JSON file, again whenever a part of it ends.

A part that is in the file is not done again, so that a stage cut off by a time limit goes on with
the next call. Parts fail one by one: an error is noted in the part's place and tried again.
"""
from __future__ import annotations

import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .. import doctor
from ..benchmark import growth, suite
from ..reproduce.provenance import code_version, environment
from ..reproduce.rows import config_folder
from ..reproduce.run_folder import read_json, write_json

STAGES = ('stack', 'benchmark', 'cifar', 'coco128', 'cifar_resnet18')


class Options(NamedTuple):
    """How stages run."""
    out: Path
    device: str
    until: float  # time.time() after which nothing new begins
    data: Path | None = None  # with coco128/ and cifar10_{train,test}.npz
    rehearsal: bool = False
    seeds: tuple[int, ...] = (0, 1, 2)
    jobs: int = 3  # trainings on CIFAR at once
    iterations: int = 300  # on COCO128
    images_per_gpu: int = 4
    checkpoint: str | None = None  # weights of the backbone on COCO128

    def left(self) -> float:
        """Seconds."""
        return self.until - time.time()


Part = tuple[str, Callable[[], Any]]


def run_stage(name: str, options: Options, say: Callable[[str], object]) -> bool:
    """Do what a stage lacks. Returns whether it is whole."""
    path = options.out / f'{name}.json'
    kept = read_json(path) or {}
    parts = kept.get('parts', {}) if kept.get('rehearsal') == options.rehearsal else {}
    results = dict(stage=name, rehearsal=options.rehearsal, device=options.device, parts=parts)
    whole = True
    for part, call in _PARTS[name](options):
        if results['parts'].get(part, {}).get('done'):
            say(f'{name}: {part}: done before')
            continue
        if options.left() < 0:
            say(f'{name}: {part}: no time left; the same command goes on')
            whole = False
            continue
        say(f'{name}: {part} ...')
        begun = time.time()
        try:
            entry = dict(done=True, result=call())
        except Exception as error:  # the other parts are worth having
            entry = dict(done=False, error=''.join(traceback.format_exception(error)[-3:])[-3000:])
            say(f'{name}: {part}: {type(error).__name__}: {error}')
            whole = False
        results['parts'][part] = dict(entry, seconds=round(time.time() - begun, 1))
        results.update(code=code_version(), environment=environment())
        write_json(path, results)
    return whole


def _stack(options: Options) -> Iterator[Part]:
    from .compiled_ops import check_ops
    yield 'environment', lambda: [check._asdict() for check in doctor.environment_checks()]
    yield 'ops', lambda: check_ops(options.device)


def _benchmark(options: Options) -> Iterator[Part]:
    training, inference = ('plain', 'S-GM', 'GM'), ('plain', 'S-GM folded', 'GM folded', 'GM')
    large = (8, (800, 1216))

    def part(*settings: Any, **more: Any) -> Part:
        comparison = suite.Comparison(*settings, **more)
        rounds, seconds = (1, 0.) if options.rehearsal else (40, 8.)
        return comparison.title(), lambda: suite.run(comparison, options.device, rounds, seconds)

    if options.rehearsal:
        yield part('backbone', 'step', ('plain', 'GM'), 1, (64, 64))
        yield part('backbone', 'inference', ('plain', 'GM folded'), 1, (64, 64), 'amp', True)
        yield 'growth', lambda: growth.measure(
            growth.Sweep('batch', (1, 2), 0, 16, 3, 1, 3, 4), options.device, rounds=1)
        return
    modes = ({}, dict(precision='amp'), dict(precision='amp', channels_last=True))
    for mode in modes:
        for batch, size in ((2, (512, 512)), large):
            yield part('backbone', 'step', training, batch, size, **mode)
            yield part('backbone', 'inference', inference, batch, size, **mode)
    others = [name for name in suite.available_variants(options.device) if 'folded' not in name]
    for work in ('step', 'inference'):
        yield part('backbone', work, tuple(others), *large)
        for mode in modes[:2]:
            yield part('detector', work, training, 2, large[1], **mode)
    for sweep in growth.sweeps():
        yield f'growth by {sweep.quantity}', lambda sweep=sweep: growth.measure(
            sweep, options.device, seconds=1.)
    for work in ('step', 'inference'):  # last: compiling takes minutes
        yield part('backbone', work, ('plain', 'GM'), *large, compiled=True)


_METHODS = ('', '-sgmconv', '-gmconv')


def _cifar(options: Options) -> Iterator[Part]:
    configs = [f'resnet20{method}' for method in _METHODS]
    data = _data(options)
    if options.rehearsal:
        yield 'resnet20', lambda: _train_cifar(
            options, data, 'rehearsal', configs, [0], '--epochs', '1', '--every', '1000')
        return
    # Seeds side by side: one small network doesn't fill a GPU.
    for first in range(0, len(options.seeds), options.jobs):
        seeds = options.seeds[first:first + options.jobs]
        yield f'resnet20, seeds {", ".join(map(str, seeds))}', lambda seeds=seeds: _train_cifar(
            options, data, 'resnet20', configs, seeds)


def _cifar_resnet18(options: Options) -> Iterator[Part]:
    methods, size = _METHODS, ()
    if options.rehearsal:
        methods, size = _METHODS[-1:], ('--epochs', '1', '--every', '5000')
    data, configs = _data(options), [f'resnet18{method}' for method in methods]
    yield 'resnet18, seed 0', lambda: _train_cifar(
        options, data, 'resnet18', configs, [0], '--half', *size)


def _data(options: Options) -> Path:
    if options.data is None or not options.data.is_dir():
        raise FileNotFoundError('this stage needs --data: a folder with coco128/ '
                                f'and cifar10_{{train,test}}.npz, got {options.data}')
    return options.data


def _train_cifar(options: Options, data: Path, name: str, configs: list[str], seeds,
                 *arguments: str) -> dict[str, Any]:
    """A process for each seed; the results of all runs that are whole."""
    folder = options.out / f'cifar-{name}'
    tool = config_folder().parents[1] / 'tools' / 'resident_cifar.py'
    folder.mkdir(parents=True, exist_ok=True)

    def start(seed: int, log: Path, *more: str) -> subprocess.Popen:
        command = [sys.executable, '-W', 'ignore', str(tool), '--data', str(data), '--out',
                   str(folder), '--device', options.device, '--configs', *configs, '--seeds',
                   str(seed), '--minutes', f'{max(0., options.left()) / 60:.2f}', *arguments, *more]
        with log.open('ab') as output:
            return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    logs = {seed: folder / f'seed{seed}.log' for seed in seeds}
    children = {seed: start(seed, log) for seed, log in logs.items()}
    statuses = {seed: child.wait() for seed, child in children.items()}
    failed = [seed for seed, status in statuses.items() if status not in (0, 3)]
    for seed in failed:  # without what is the most likely cause
        if options.device != 'cpu':
            statuses[seed] = start(seed, logs[seed], '--no-graph').wait()
    runs = [read_json(path) for path in sorted(folder.glob('*.json'))]
    for seed, status in statuses.items():
        if status:
            lines = logs[seed].read_text(errors='replace').splitlines()
            write_json(options.out / f'cifar-{name}-unfinished.json', dict(runs=runs))
            raise RuntimeError(f'seed {seed} ended with {status}: ' + '\n'.join(lines[-6:]))
    return dict(runs=runs)


def _coco128(options: Options) -> Iterator[Part]:
    from .coco_rows import ROWS, short_config, train_row
    on_gpu = options.device.startswith('cuda')
    data = _data(options) / 'coco128'
    for row in ROWS[-1:] if options.rehearsal else ROWS:
        yield row.name, lambda row=row: train_row(
            row, short_config(row, data, options.iterations,
                              2 if options.rehearsal else options.images_per_gpu, on_gpu,
                              options.rehearsal, options.checkpoint),
            options.out / 'coco128' / row.name, gpus=int(on_gpu))


_PARTS: dict[str, Callable[[Options], Iterator[Part]]] = {
    'stack': _stack, 'benchmark': _benchmark, 'cifar': _cifar, 'coco128': _coco128,
    'cifar_resnet18': _cifar_resnet18}
