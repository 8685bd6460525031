"""Results of :mod:`.resident_cifar` beside the paper's Table I."""
from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .paper import TABLE_I
from .run_folder import read_json

_METHODS = {'': 'StdConv', '-sgmconv': 'S-GMConv', '-gmconv': 'GMConv'}
_MODELS = {'resnet20': 'ResNet-20', 'resnet56': 'ResNet-56', 'resnet18': 'ResNet-18'}


def read_results(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The results in some files: of one run each, or of a stage of ``tools/gpu_evidence.sh``."""
    found = []
    for path in paths:
        content = read_json(path) or {}
        if 'accuracy' in content:
            found.append(content)
        for part in content.get('parts', {}).values():
            found += part.get('result', {}).get('runs', [])
    return found


def table(results: Sequence[dict[str, Any]]) -> str:
    """Accuracies on CIFAR-10 as Markdown, one line for each network of Table I, and the learned
    sigmas. What was not run stays empty. Short runs have no place beside the paper's figures: they
    are listed by themselves."""
    lines = ['| network | method | paper (%) | here (%) | seeds | epochs | s / run |',
             '| --- | --- | --- | --- | --- | --- | --- |']
    names = {f'{model}{method}_cifar10': (long, paper) for model, long in _MODELS.items()
             for method, paper in _METHODS.items()}
    full = [result for result in results if result['every'] == 1 and not result['half']
            and result['epochs'] in (160, 200)]
    for config, (model, method) in names.items():
        paper = next(line for line in TABLE_I if (line.model, line.method) == (model, method))
        runs = [result for result in full if result['config'] == config]
        cells = ['', '', '', '']
        if runs:
            accuracies = [run['accuracy'] for run in runs]
            spread = f' ± {statistics.stdev(accuracies):.2f}' if len(runs) > 1 else ''
            cells = [f'{statistics.mean(accuracies):.2f}{spread}',
                     ', '.join(str(run['seed']) for run in runs), str(runs[0]['epochs']),
                     f'{statistics.mean(run["seconds"] for run in runs):.0f}']
        lines.append(f'| {model} | {method} | {paper.cifar10:.2f} | {" | ".join(cells)} |')
    others = [result for result in results if result not in full]
    if others:
        lines += ['', 'Other runs, which say nothing about the table:', '']
        lines += [f'- {run["config"]}, seed {run["seed"]}: {run["epochs"]} epochs, 1 image in '
                  f'{run["every"]}, fp{16 if run["half"] else 32}: {run["accuracy"]:.2f}%'
                  for run in others]
    for run in full:
        if run['sigmas'] and run['seed'] == min(r['seed'] for r in full
                                                if r['config'] == run['config']):
            lines += ['', f'Sigmas of {run["config"]}, seed {run["seed"]}, at the end (a dynamic '
                      'layer\'s: s1, s2, mean over test images):', '',
                      '| layer | sigma |', '| --- | --- |']
            lines += [f'| {layer} | {_numbers(sigma)} |' for layer, sigma in run['sigmas'].items()]
    return '\n'.join(lines) + '\n'


def _numbers(sigma: float | list[float]) -> str:
    return ', '.join(f'{number:.3f}' for number in (
        sigma if isinstance(sigma, list) else [sigma]))
