"""Tables of the runs of :mod:`.cifar10`, from their JSON files."""
from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from ..layers.gaussian_mask import gaussian_mask
from ..layers.masked_kernel import masked_extent
from ..messages import markdown_table
from .reproduce.paper import TABLE_I

# Not measured here: (model, variant) -> per cent, means of three runs.
METHODS = {'StdConv': 'plain', 'S-GMConv': 'sgm', 'GMConv': 'gm'}
PAPER = {(line.model, METHODS[line.method]): line.cifar10 for line in TABLE_I}


def report(paths: Sequence[Path], by: str = 'layer') -> str:
    """Tables in Markdown: accuracy by variant; masks at the end by layer, a table a variant, or by
    stage, a line a variant.

    Args:
        paths (Sequence[Path]): JSON files of runs; those of one name but for the seed are averaged,
            unfinished ones named and left out.
        by (str): ``'layer'`` or ``'stage'``.
    """
    runs: dict[str, list[dict]] = {}
    unfinished = []
    for path in sorted(paths):
        run = json.loads(path.read_text())
        if run['finished']:
            runs.setdefault(path.stem.rpartition('-seed')[0], []).append(run)
        else:
            unfinished.append(f'{path.stem} ({len(run["epoch"])} of '
                              f'{run["settings"]["epochs"]} epochs)')
    lines = [] if not runs else [
        'Test accuracy on CIFAR-10 in per cent after the last epoch, mean ± sample standard '
        'deviation. "paper": Table I of arXiv 2302.04544, 160 epochs, not measured here.', '',
        *markdown_table(['run', 'seeds', 'epochs', 'of the paper\'s', 'accuracy', 'paper',
                         's / epoch'], accuracies(runs))]
    masked = {name: group for name, group in runs.items() if group[0]['masks']}
    if masked and by == 'stage':
        lines += ['', 'Masks at the end, stem / layer1 / layer2 / layer3: means over the layers of '
                  'a stage and the seeds, all without sign. "start": sigma at the start; effective '
                  'size: of the plain kernel whose taps are spread as widely, in kernel cells (3: '
                  'the mask is flat, 1: only the centre is left).', '',
                  *markdown_table(['run', 'start', 'sigma', 'moved by weight decay',
                                   'moved by gradients', 'effective size'], by_stage(masked))]
    for name, group in masked.items() if by == 'layer' else ():
        lines += ['', f'Masks of {name} at the end, from sigma '
                  f'{group[0]["settings"]["init_sigma"]:g} at the start, mean over seeds. A '
                  'dynamic layer has two numbers: s1, s2 over test images, and the parts of '
                  'its predictor\'s bias (sigma, ratio).', '',
                  *markdown_table(['layer', 'sigma', 'by weight decay', 'by gradients',
                                   'sum of entries', 'least'], by_layer(group))]
    if unfinished:
        lines += ['', 'Not finished, and left out: ' + ', '.join(unfinished) + '.']
    return '\n'.join(lines).lstrip('\n')


def accuracies(runs: dict[str, list[dict]]) -> Iterator[list[str]]:
    for name, group in runs.items():
        settings = group[0]['settings']
        paper = ('' if 'warm_start' in settings or settings['every'] > 1 else
                 PAPER.get((f'ResNet-{settings["depth"]}', settings['variant']), ''))
        yield [name, ', '.join(str(run['settings']['seed']) for run in group),
               str(settings['epochs']), f'x {group[0]["schedule_factor"]:.3g}',
               spread([run['accuracy'][-1] for run in group], 2), str(paper),
               f'{statistics.median(s for run in group for s in run["seconds"]):.1f}']


def by_layer(group: list[dict]) -> Iterator[list[str]]:
    for layer in group[0]['masks']:
        yield [layer, *(spread([run['masks'][layer][key][-1] for run in group], 3)
                        for key in ('sigma', 'decay', 'gradient', 'sum', 'min'))]


def by_stage(runs: dict[str, list[dict]]) -> Iterator[list[str]]:
    for name, group in runs.items():
        stages: dict[str, list[dict]] = {}
        for run in group:
            for layer, entry in run['masks'].items():
                stages.setdefault(layer.partition('.')[0], []).append(
                    dict({key: numbers(values[-1]) for key, values in entry.items()},
                         size=[effective_size(entry['sigma'][-1])]))
        cells = []
        for key, digits in (('sigma', 3), ('decay', 3), ('gradient', 3), ('size', 2)):
            means = [statistics.mean(abs(value) for layer in layers for value in layer[key])
                     for layers in stages.values()]
            cells.append(' / '.join(f'{mean:.{digits}f}' for mean in means))
        yield [name, f'{group[0]["settings"]["init_sigma"]:g}', *cells]


def numbers(value: float | list[float]) -> list[float]:
    return value if isinstance(value, list) else [value]


def effective_size(sigma: float | list[float]) -> float:
    """Of the mask of a 3x3 kernel, as ``SigmaLogHook`` has it, see :func:`masked_extent`."""
    height, width = masked_extent(gaussian_mask((3, 3), torch.tensor(numbers(sigma))))
    return (height * width) ** 0.5


def spread(values: list, digits: int) -> str:
    """Mean and spread; of lists, place by place."""
    if isinstance(values[0], list):
        return ', '.join(spread(list(place), digits) for place in zip(*values))
    mean = round(statistics.mean(values), digits) + 0.0  # no '-0.00'
    text = f'{mean:.{digits}f}'
    return text + (f' ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else '')
