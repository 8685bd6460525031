"""A short run of Table I's networks on a CPU: a sign of life, not a reproduction."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config

from ..weights import read_checkpoint
from .provenance import code_version, environment
from .rows import config_folder

_LOADERS = ('train_dataloader', 'val_dataloader')


def run_folder(name: str, work_root: Path, epochs: int, every: int, seed: int,
               label: str = '') -> Path:
    """Where a run's log and checkpoints are; ``label`` tells runs of one config apart."""
    return work_root / f'{name}{label and "-" + label}-{epochs}epochs-every{every}-seed{seed}'


def train(name: str, work_root: Path, data: Path, epochs: int, every: int, seed: int,
          threads: int, label: str = '', start: Path | None = None,
          further: Sequence[str] = ()) -> dict:
    """Train one config with mmpretrain's own tool; a finished run is not repeated, an interrupted
    one goes on from its last epoch.

    Args:
        name (str): of a config in ``configs/cifar``, for packed CIFAR-10.
        work_root (Path): the run's folder lies here.
        data (Path): folder with ``cifar10_{train,test}.npz``.
        epochs (int): instead of the recipe's; the learning rate falls after half and three
        quarters. every (int): train on each ``every``-th image; tested is on all.
        seed (int): of everything random.
        threads (int): that torch may use.
        label (str): of this run among those of its config.
        start (Path, optional): checkpoint to start from, instead of the config's.
        further (Sequence[str]): ``key=value`` settings of the config.

    Returns:
        dict: accuracy in per cent, seconds of training, sigmas at the end, and what they come from.

    Raises:
        RuntimeError: the training failed.
    """
    import mmpretrain  # optional: only pretraining needs it
    folder = run_folder(name, work_root, epochs, every, seed, label)
    done = folder / 'result.json'
    if done.is_file():
        return json.loads(done.read_text())
    config = config_folder().parent / 'cifar' / f'{name}.py'
    options = [f'train_cfg.max_epochs={epochs}', f'train_cfg.val_interval={epochs}',
               f'param_scheduler.milestones={_milestones(epochs)}'.replace(' ', ''),
               f'train_dataloader.dataset.every={every}', f'randomness.seed={seed}',
               'default_hooks.logger.interval=10', 'default_hooks.checkpoint.max_keep_ckpts=1']
    for loader in _LOADERS:  # worker processes would compete with the training
        options += [f'{loader}.num_workers=0', f'{loader}.persistent_workers=False']
    options += further
    resume = (folder / 'last_checkpoint').is_file()
    if start is not None and not resume:
        options.append(f'load_from={start}')
    command = [sys.executable, '-W', 'ignore',
               str(Path(mmpretrain.__file__).parent / '.mim' / 'tools' / 'train.py'), str(config),
               '--work-dir', str(folder), *['--resume'] * resume, '--cfg-options', *options]
    run = subprocess.run(command, env={**os.environ, 'CIFAR10_PACKED': str(data.resolve()),
                                       'OMP_NUM_THREADS': str(threads)})
    if run.returncode:
        raise RuntimeError(f'{folder.name} failed with {run.returncode}, see the log in {folder}; '
                           'the same command goes on from its last epoch')
    result = dict(config=name, epochs=epochs, every=every, seed=seed, threads=threads,
                  **_outcome(folder, epochs), code=code_version(), environment=environment())
    done.write_text(json.dumps(result, indent=1))
    return result


def _outcome(folder: Path, epochs: int) -> dict:
    checkpoint = read_checkpoint(folder / f'epoch_{epochs}.pth')
    lines = [json.loads(line) for log in sorted(folder.glob('*/vis_data/scalars.json'))
             for line in log.read_text().splitlines()]
    scalars = checkpoint['message_hub']['log_scalars']
    steps = scalars['train/time'].data[0]
    return dict(accuracy=[line['accuracy/top1'] for line in lines if 'accuracy/top1' in line][-1],
                iterations=len(steps),
                seconds=float(steps.sum()),
                sigmas={key.removeprefix('backbone.').removesuffix('.sigma'): float(value)
                        for key, value in checkpoint['state_dict'].items()
                        if key.endswith('.sigma')})


def sigma_by_decay_alone(result: dict) -> float:
    """Where the run's optimizer and schedule take a sigma of 5 that gets no gradient: the recipes
    apply weight decay to sigmas too, and a short run may show little else."""
    recipe = Config.fromfile(config_folder().parent / 'cifar' / f'{result["config"]}.py')
    options = {key: value for key, value in recipe.optim_wrapper.optimizer.items() if key != 'type'}
    sigma = torch.nn.Parameter(torch.tensor(5.))
    sigma.grad = torch.zeros(())
    optimizer = torch.optim.SGD([sigma], **options)
    epochs = result['epochs']
    schedule = torch.optim.lr_scheduler.MultiStepLR(
        optimizer, _milestones(epochs), recipe.param_scheduler.gamma)
    for _ in range(epochs):
        for _ in range(result['iterations'] // epochs):
            optimizer.step()
        schedule.step()
    return float(sigma)


def _milestones(epochs: int) -> list[int]:
    return [epochs // 2, 3 * epochs // 4]


def markdown(results: Sequence[dict]) -> str:
    """The results as two tables: the runs, and each layer's sigma."""
    lines = ['| config | test accuracy (%) | iterations | training (s) | s / iteration |',
             '| --- | --- | --- | --- | --- |']
    for result in results:
        lines.append(f'| {result["config"]} | {result["accuracy"]:.2f} | {result["iterations"]} | '
                     f'{result["seconds"]:.0f} | {result["seconds"] / result["iterations"]:.2f} |')
    for result in results:
        if result['sigmas']:
            lines += ['', f'Sigmas of {result["config"]}, from 5 at the start. Weight decay alone, '
                      'without any data, would take them to '
                      f'{sigma_by_decay_alone(result):.3f}.', '',
                      '| layer | sigma |', '| --- | --- |']
            lines += [f'| {layer} | {sigma:.3f} |' for layer, sigma in result['sigmas'].items()]
    return '\n'.join(lines) + '\n'
