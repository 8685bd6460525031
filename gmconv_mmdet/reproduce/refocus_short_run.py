"""A short run of RefConv on CIFAR-10: train a plain network, refocus it, fold it.

A sign of life, not a result: the networks are small, the runs short, the seed is one. The plain
network trained equally long once more is the comparison that refocusing has to stand (it doubles
the training).
"""
from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, load_checkpoint
from torch import Tensor

from ..deploy import fold_gmconv
from ..layers import RefConv2d
from .cifar_short_run import run_folder, train

PLAIN, REFOCUSED = 'resnet20_cifar10-packed', 'resnet20-refconv_cifar10-packed'
FIRST, CONTINUED = 'plain', 'plain, trained on'


def refocus_run(work_root: Path, data: Path, depth: int, epochs: int, every: int, val_every: int,
                batch: int, seed: int, threads: int, inits: Sequence[str] = ('paper', )) -> dict:
    """Train a plain network; from it, equally long each, the plain one on and RefConv; fold.

    Args:
        work_root (Path): the runs' folders lie here; finished ones are not repeated.
        data (Path): folder with ``cifar10_{train,test}.npz``.
        depth (int): of the CIFAR ResNet.
        epochs (int): of each of the two phases.
        every, val_every (int): train on each ``every``-th image; for the curves, test on each
            ``val_every``-th one. Accuracies after a phase are of all test images.
        batch (int): images in an iteration; small, for many iterations in a short run.
        seed (int): of everything random.
        threads (int): that torch may use.
        inits (Sequence[str]): of the maps; a run each.

    Returns:
        dict: settings, and ``runs``: for each its accuracy, parameters and curves; for RefConv also
        what folding it changed.

    Raises:
        RuntimeError: a training failed.
    """
    shared = dict(work_root=work_root, data=data, epochs=epochs, every=every, seed=seed,
                  threads=threads)
    options = [f'model.backbone.backbone.depth={depth}', 'train_cfg.val_interval=1',
               f'val_dataloader.dataset.every={val_every}', f'train_dataloader.batch_size={batch}']

    def run(name: str, label: str, start: Path | None = None, further: Sequence[str] = ()) -> Path:
        results.append(train(name, label=label, start=start, further=[*options, *further],
                             **shared))
        return run_folder(name, work_root, epochs, every, seed, label)

    results: list[dict] = []
    folders = {FIRST: run(PLAIN, f'depth{depth}')}
    start = (folders[FIRST] / f'epoch_{epochs}.pth').resolve()
    folders[CONTINUED] = run(PLAIN, f'depth{depth}-on', start)
    for init in inits:
        folders[f'RefConv, init {init}'] = run(
            REFOCUSED, f'depth{depth}-{init}', start, [f'model.backbone.gm_cfg.init={init}'])
    torch.set_num_threads(threads)
    runs = {title: {**outcome(folder, epochs, folders[FIRST]), **curves(folder),
                    'seconds': result['seconds'], 'iterations': result['iterations']}
            for (title, folder), result in zip(folders.items(), results)}
    return dict(depth=depth, epochs=epochs, every=every, val_every=val_every, batch=batch,
                seed=seed, threads=threads, runs=runs, code=results[0]['code'],
                environment=results[0]['environment'])


def _network(folder: Path) -> tuple[Config, nn.Module]:
    """A run's config and, without its weights, its classifier."""
    from mmpretrain.registry import MODELS  # optional: only pretraining needs it
    config, = (path for path in folder.glob('*.py'))
    cfg = Config.fromfile(config)
    init_default_scope('mmpretrain')
    return cfg, MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))


@torch.no_grad()
def _scores(cfg: Config, model: nn.Module) -> tuple[Tensor, float]:
    """Class scores of all test images ``(N, classes)``, and the accuracy in per cent."""
    model.eval()
    settings = copy.deepcopy(cfg.test_dataloader)
    settings.update(num_workers=0, persistent_workers=False)
    settings.dataset.pop('every', None)
    samples = [sample for batch in Runner.build_dataloader(settings)
               for sample in model.test_step(batch)]
    scores = torch.stack([sample.pred_score for sample in samples])
    labels = torch.cat([sample.gt_label for sample in samples])
    return scores, 100 * (scores.argmax(1) == labels).double().mean().item()


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def outcome(folder: Path, epochs: int, plain: Path) -> dict:
    """Test a finished run's network; one with RefConv is also folded into the plain run's network,
    loaded strictly, and tested again.

    Returns:
        dict: ``accuracy`` on all test images in per cent, trained ``parameters``; under ``folded``
        the same of the folded network, how many of the test images it ``decides_otherwise`` on, and
        the ``largest_difference`` of a class's score (a probability).
    """
    cfg, model = _network(folder)
    load_checkpoint(model, str(folder / f'epoch_{epochs}.pth'), map_location='cpu')
    scores, accuracy = _scores(cfg, model)
    found = dict(accuracy=accuracy, parameters=_parameters(model))
    if any(isinstance(layer, RefConv2d) for layer in model.modules()):
        plain_cfg, stock = _network(plain)
        stock.load_state_dict(fold_gmconv(model).state_dict())
        folded, accuracy = _scores(plain_cfg, stock)
        found['folded'] = dict(
            accuracy=accuracy, parameters=_parameters(stock),
            decides_otherwise=int((scores.argmax(1) != folded.argmax(1)).sum()),
            largest_difference=(scores - folded).abs().max().item())
    return found


def curves(folder: Path) -> dict:
    """Training loss, ``[iteration, loss]`` every ten iterations, and the accuracy of the curve's
    test images after each epoch, ``[epoch, per cent]``."""
    lines = [json.loads(line) for log in sorted(folder.glob('*/vis_data/scalars.json'))
             for line in log.read_text().splitlines()]
    # An interrupted run may have logged an iteration twice.
    losses = {line['step']: line['loss'] for line in lines if 'loss' in line}
    accuracies = {line['step']: line['accuracy/top1'] for line in lines if 'accuracy/top1' in line}
    return dict(losses=[list(point) for point in sorted(losses.items())],
                accuracies=[list(point) for point in sorted(accuracies.items())])


def markdown(result: dict) -> str:
    """The runs as a table. Their seconds are in the JSON file only: runs one after the other
    compare badly where others use the machine."""
    lines = ['| network | iterations | test accuracy (%) | trained parameters |',
             '| --- | --- | --- | --- |']
    for title, run in result['runs'].items():
        lines.append(f'| {title} | {run["iterations"]} | {run["accuracy"]:.2f} | '
                     f'{run["parameters"]} |')
        if 'folded' in run:
            lines.append(f'| {title}, folded | - | {run["folded"]["accuracy"]:.2f} | '
                         f'{run["folded"]["parameters"]} |')
    for title, run in result['runs'].items():
        if 'folded' in run:
            lines += ['', f'{title}: the folded network decides otherwise on '
                      f'{run["folded"]["decides_otherwise"]} of the test images; no class\'s '
                      f'probability differs by more than '
                      f'{run["folded"]["largest_difference"]:.1e}.']
    return '\n'.join(lines) + '\n'
