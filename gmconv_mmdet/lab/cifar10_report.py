"""Tables of the runs of :mod:`.cifar10`, from their JSON files."""
from __future__ import annotations

import json
import statistics
from pathlib import Path

# Table I of arXiv 2302.04544, CIFAR-10, per cent, means of three runs. Not measured here.
PAPER = {(20, 'plain'): 91.58, (20, 'sgm'): 91.85, (20, 'gm'): 91.81,
         (56, 'plain'): 92.86, (56, 'sgm'): 93.16, (56, 'gm'): 93.28}


def report(paths: list[Path]) -> str:
    """Tables in Markdown: accuracy by variant, and for each variant its masks at the end."""
    runs: dict[str, list[dict]] = {}
    unfinished = []
    for path in sorted(paths):
        run = json.loads(path.read_text())
        if run['finished']:
            runs.setdefault(path.stem.rpartition('-seed')[0], []).append(run)
        else:
            unfinished.append(f'{path.stem} ({len(run["epoch"])} of '
                              f'{run["settings"]["epochs"]} epochs)')
    lines = ['Test accuracy on CIFAR-10 in per cent after the last epoch, mean ± sample standard '
             'deviation. "paper": Table I of arXiv 2302.04544, 160 epochs, not measured here.', '',
             '| run | seeds | epochs | of the paper\'s | accuracy | paper | s / epoch |',
             '| --- | --- | --- | --- | --- | --- | --- |']
    for name, group in runs.items():
        settings = group[0]['settings']
        paper = ('' if 'warm_start' in settings or settings['every'] > 1 else
                 PAPER.get((settings['depth'], settings['variant']), ''))
        lines.append(f'| {name} | {", ".join(str(run["settings"]["seed"]) for run in group)} | '
                     f'{settings["epochs"]} | x {group[0]["schedule_factor"]:.3g} | '
                     f'{spread([run["accuracy"][-1] for run in group], 2)} | {paper} | '
                     f'{statistics.median(s for run in group for s in run["seconds"]):.1f} |')
    for name, group in runs.items():
        if group[0]['masks']:
            lines += ['', f'Masks of {name} at the end, from sigma '
                      f'{group[0]["settings"]["init_sigma"]:g} at the start, mean over seeds. A '
                      'dynamic layer has two numbers: s1, s2 over test images, and the parts of '
                      'its predictor\'s bias (sigma, ratio).', '',
                      '| layer | sigma | by weight decay | by gradients | sum of entries | least |',
                      '| --- | --- | --- | --- | --- | --- |']
        for layer in group[0]['masks']:
            cells = [spread([run['masks'][layer][key][-1] for run in group], 3)
                     for key in ('sigma', 'decay', 'gradient', 'sum', 'min')]
            lines.append(f'| {layer} | ' + ' | '.join(cells) + ' |')
    if unfinished:
        lines += ['', 'Not finished, and left out: ' + ', '.join(unfinished) + '.']
    return '\n'.join(lines)


def spread(values: list, digits: int) -> str:
    """Mean and spread; of lists, place by place."""
    if isinstance(values[0], list):
        return ', '.join(spread(list(place), digits) for place in zip(*values))
    mean = round(statistics.mean(values), digits) + 0.0  # no '-0.00'
    text = f'{mean:.{digits}f}'
    return text + (f' ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else '')
