"""Results of a comparison, summed up: mean and spread, paired differences, what masks learned."""
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from ....files import read_json, write_json
from ....layers import gaussian_mask
from ....messages import markdown_table
from ..paper import COCO_2017_VAL_IMAGES, COCO_METRICS, DETECTION_TABLES, printed_ap
from ..run_folder import RunFolderError
from .page import page
from .paired_stats import Difference, paired_difference, paired_values, seeds_needed, summarize

DIFFERENCE = 0.5  # of AP, in points: what seeds are counted for
LEARNED = 0.01  # of a sigma's start; less by gradients is nothing
PRINTED = 'printed in the paper, not measured here'
FLAT = 0.999  # smallest entry of a mask that is as good as none


def read_results(folder: Path, names: Sequence[str] | None = None,
                 table: str | None = None) -> list[dict]:
    """Results of variants in a folder of runs or of copied result files, in the comparison's order.

    Args:
        folder (Path): holds ``<variant>-seed<k>/result.json`` or ``<variant>-seed<k>.json``.
        names (Sequence[str], optional): these variants only, beside their baselines.
        table (str, optional): rows of this table of the paper only.

    Raises:
        RunFolderError: none there, or an unknown name.
    """
    paths = sorted({*folder.glob('*-seed*.json'), *folder.glob('*-seed*/result.json')})
    results = [result for path in paths if 'variant' in (result := read_json(path) or {})]
    if table is not None:
        rows = {row.name for row in DETECTION_TABLES[table]}
        results = [result for result in results if result['variant'] in rows]
    if not results:
        raise RunFolderError(f'no result of a comparison in {folder}: `run` makes them')

    def means(name: str, result: dict) -> bool:
        return name in (result['variant'], *result['variant'].split('_', 1))

    if names is not None:
        unknown = [name for name in names if not any(means(name, one) for one in results)]
        if unknown:
            known = sorted({result['variant'] for result in results})
            raise RunFolderError(f'no result of {", ".join(unknown)} in {folder}, but of '
                                 f'{", ".join(known)}')
        chosen = [one for one in results if any(means(name, one) for name in names)]
        kept = {one[key] for one in chosen for key in ('variant', 'baseline')}
        results = [result for result in results if result['variant'] in kept]
    return sorted(results, key=lambda result: (result.get('order', 0), result['seed']))


def summary(results: Sequence[dict]) -> dict:
    """All numbers of the report, as JSON."""
    runs: dict[str, dict[int, dict]] = {}
    for result in results:
        runs.setdefault(result['variant'], {})[result['seed']] = result
    values = {name: {metric: {seed: result['metrics'][metric] for seed, result in by_seed.items()}
                     for metric in COCO_METRICS} for name, by_seed in runs.items()}
    baselines = {result['variant']: result['baseline'] for result in results}
    twice = [result['variant'] for result in results
             if result['baseline'] != baselines[result['variant']]]
    if twice:
        raise RunFolderError(f'runs of {twice[0]} were compared with several baselines: give each '
                             'comparison a folder of its own')
    # The paper's figures stand beside a measurement on its own data only.
    paper = {name: printed_ap(name) if all(
        result.get('val_images') == COCO_2017_VAL_IMAGES for result in by_seed.values()) else {}
        for name, by_seed in runs.items()}
    variants, differences = [], []
    for name, by_seed in runs.items():
        measured = {metric: summarize([v for v in values[name][metric].values() if v is not None])
                    for metric in COCO_METRICS}
        variants.append(dict(
            name=name, seeds=sorted(by_seed), overrides=next(iter(by_seed.values()))['overrides'],
            metrics={metric: None if one is None else one._asdict()
                     for metric, one in measured.items()}, paper=paper[name]))
        baseline = baselines[name]
        if name != baseline and baseline in runs:
            pairs = {metric: paired_values(values[name][metric], values[baseline][metric])
                     for metric in COCO_METRICS}
            one = {metric: paired_difference(pairs[metric]) for metric in COCO_METRICS}
            spread = one['AP'].spread if one['AP'] else None
            differences.append(dict(
                name=name, against=baseline,
                metrics={metric: None if d is None else dict(d._asdict(), each=pairs[metric])
                         for metric, d in one.items()},
                paper={metric: round(value - paper[baseline][metric], 1)
                       for metric, value in paper[name].items() if metric in paper[baseline]},
                seeds_needed=seeds_needed(spread, DIFFERENCE) if spread is not None else None))
    compared = [result for result in results if result['variant'] != result['baseline']]
    return dict(
        baseline=' and '.join(dict.fromkeys(baselines.values())),
        config=(compared or results)[0]['base_config'],
        difference=DIFFERENCE,
        overrides=results[0].get('shared_overrides', []),
        variants=variants, differences=differences,
        masks=[mask_story(result) for result in results if result['masks']['final']],
        runs=[{key: result.get(key) for key in (
            'variant', 'seed', 'metrics', 'epochs', 'batch_size', 'threads', 'seconds', 'paired',
            'config_sha256', 'checkpoint_sha256', 'code', 'notes', 'finished')}
            for result in results],
        environment=results[-1]['environment'])


def mask_story(result: dict) -> dict:
    """What became of a run's masks: each number's start and end, what weight decay and what
    gradients did to it, and a verdict in words."""
    log = result['history']['sigmas']['values']
    numbers = []
    for key in log:
        number, _, layer = key.partition('/')
        if number not in ('sigma', 'b1_sigma', 'b1_ratio', 'b1_sigma_x', 'b1_sigma_y'):
            continue
        series = [value for value in log[key] if value is not None]
        if not series:
            continue
        decay, gradient = (log.get(f'{number}_by_{what}/{layer}') for what in ('decay', 'gradient'))
        known = bool(decay and gradient and decay[-1] is not None and gradient[-1] is not None)
        numbers.append(dict(
            layer=layer, number=number, end=series[-1],
            start=series[-1] - decay[-1] - gradient[-1] if known else series[0],
            by_decay=decay[-1] if known else None, by_gradient=gradient[-1] if known else None))
    flat = [mask['layer'] for mask in result['masks']['final'] if smallest_entry(mask) >= FLAT]
    return dict(variant=result['variant'], seed=result['seed'], numbers=numbers, flat=flat,
                masks=len(result['masks']['final']), verdict=_verdict(numbers, flat, result))


def _verdict(numbers: Sequence[dict], flat: Sequence[str], result: dict) -> str:
    if not numbers:
        return 'sigmas were not logged (SigmaLogHook): what moved them is not known'
    split = all(number['by_gradient'] is not None for number in numbers)

    def largest(what: str) -> float:
        return max(abs(number[what] if split else number['end'] - number['start'])
                   / max(abs(number['start']), 1e-12) for number in numbers)

    moved = largest('by_gradient')
    by = 'gradients' if split else 'all that happened (decay and gradients are not told apart)'
    said = (f'{"LEARNED NOTHING about its masks: " if moved < LEARNED else ""}the largest change '
            f'by {by} is {moved:.1%} of the start')
    if split:
        said += f', by weight decay {largest("by_decay"):.1%}'
    if flat:
        said += (f'; {len(flat)} of {len(result["masks"]["final"])} masks are flat within 0.1 %, '
                 'their layers plain convolutions')
    return said


def smallest_entry(mask: dict) -> float:
    """The smallest entry of the Gaussian mask of ``dict(kernel=(h, w), sigma=(x, y))``."""
    return min(min(row) for row in mask_values(mask))


def mask_values(mask: dict) -> list[list[float]]:
    """The mask itself, ``(h, w)``, its largest entry 1."""
    sigma = torch.tensor(mask['sigma'], dtype=torch.float64)
    return gaussian_mask(tuple(mask['kernel']), sigma).tolist()


def markdown(told: dict) -> str:
    """The report without pictures."""
    lines = [f'# {told["config"]}: does it help?', '', *'\n\n'.join(PREFACE).split('\n'), '',
             *_shared(told), *difference_tables(told, '## '), '', '## What the masks learned', '']
    lines += [f'* {one["variant"]} seed {one["seed"]}: {one["verdict"]}.' for one in told['masks']]
    for header, body, title in drift_tables(told):
        lines += ['', f'{title}:', '', *markdown_table(header, body)]
    lines += ['', '## Runs', '', *markdown_table(*run_table(told)), '',
              'Environment: ' + '; '.join(f'{key} {value}' for key, value in
                                          told['environment'].items()) + '.', '']
    return '\n'.join(lines)


def difference_tables(told: dict, level: str = '') -> list[str]:
    """Mean and spread, and paired differences, each under a title (a heading with ``level``)."""
    end = '' if level else ':'
    metrics = measured_metrics(told)
    return [f'{level}Mean and spread{end}', '', *markdown_table(*measured_table(told, metrics)), '',
            f'{level}Differences from {told["baseline"]}, paired by seed{end}', '',
            *(markdown_table(*difference_table(told, metrics)) if told['differences'] else
              ['The baseline or the variants have no finished run.'])]


def measured_metrics(told: dict) -> list[str]:
    return [metric for metric in COCO_METRICS
            if any(one['metrics'][metric] for one in told['variants'])]


def _shared(told: dict) -> list[str]:
    return [f'Overrides of all variants: {" ".join(told["overrides"])}', ''] if told[
        'overrides'] else []


PREFACE = (
    'Box AP in per cent as mmdet reports it, to one decimal. Mean ± sample standard deviation over '
    'the seeds; a single seed has none.',
    'Runs of one seed share the order and augmentation of the images and every initial tensor that '
    'agrees in name and shape.',
    'Differences: mean [95 % confidence interval, Student\'s t on the paired differences]; one '
    f'pair has no interval. Seeds for {DIFFERENCE}: pairs with which a paired two-sided test at 5 '
    f'% sees a true difference of {DIFFERENCE} AP with a power of 80 %, by the spread seen here. '
    'An interval that holds 0 shows no effect and does not show that there is none.')


def short_code(code: str) -> str:
    """A commit in twelve digits; a version as it is."""
    commit, plus, changes = code.partition('+')
    return code if ' ' in code else commit[:12] + plus + changes


def measured_table(told: dict, metrics: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    def cell(one: dict | None) -> str:
        if one is None:
            return ''
        spread = '' if one['spread'] is None else f' ± {one["spread"]:.2f}'
        return f'{one["mean"]:.2f}{spread}'

    body = []
    for one in told['variants']:
        body.append([one['name'], ' '.join(map(str, one['seeds'])),
                     *(cell(one['metrics'][metric]) for metric in metrics),
                     ' '.join(one['overrides'])])
        if one['paper']:
            body.append([PRINTED, '', *(f'{one["paper"][metric]:.1f}' if metric in one['paper']
                                        else '' for metric in metrics), ''])
    return ['variant', 'seeds', *metrics, 'overrides'], body


def difference_table(told: dict, metrics: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    def cell(one: dict | None) -> str:
        return '' if one is None else Difference(*(one[key] for key in Difference._fields)).text()

    body = []
    for one in told['differences']:
        ap, needed = one['metrics']['AP'], one['seeds_needed']
        more = ('unknown: needs 2 pairs' if ap is None or ap['spread'] is None else
                'over 10,000' if needed is None else
                f'{needed} ({max(0, needed - ap["pairs"])} more)')
        name = (one['name'] if one['against'] == told['baseline'] else
                f'{one["name"]} against {one["against"]}')
        body.append([name, str(ap['pairs'] if ap else 0),
                     *(cell(one['metrics'][metric]) for metric in metrics), more])
        if one['paper']:
            body.append([PRINTED, '', *(f'{one["paper"][metric]:+.1f}' if metric in one['paper']
                                        else '' for metric in metrics), ''])
    return ['variant', 'pairs', *metrics, f'seeds for {told["difference"]} AP'], body


def drift_tables(told: dict):
    """A table a variant: means over its seeds."""
    header = ['layer', 'number', 'start', 'end', 'by decay', 'by gradients']
    for name in dict.fromkeys(one['variant'] for one in told['masks']):
        stories = [one for one in told['masks'] if one['variant'] == name]
        groups: dict[tuple[str, str], list[dict]] = {}
        for number in (number for story in stories for number in story['numbers']):
            groups.setdefault((number['layer'], number['number']), []).append(number)
        body = []
        for (layer, number), found in sorted(groups.items()):
            cells = []
            for key in ('start', 'end', 'by_decay', 'by_gradient'):
                values = [one[key] for one in found]
                sign = '+' if key.startswith('by_') else ''
                cells.append('' if None in values else f'{sum(values) / len(values):{sign}.4f}')
            body.append([layer, number, *cells])
        if body:
            yield header, body, f'{name}, mean over {len(stories)} seed(s)'


def run_table(told: dict) -> tuple[list[str], list[list[str]]]:
    header = ['variant', 'seed', 'AP', 'epochs', 'batch', 'seconds', 'config', 'checkpoint', 'code',
              'initial weights', 'notes']
    return header, [[run['variant'], str(run['seed']), f'{run["metrics"]["AP"]}',
                     str(run['epochs']), str(run['batch_size']), f'{run["seconds"]:.0f}',
                     run['config_sha256'][:12], run['checkpoint_sha256'][:12],
                     ' '.join(map(short_code, run['code'])), run['paired'] or '',
                     '; '.join(run['notes'])] for run in told['runs']]


def write_comparison(results: Sequence[dict], folder: Path) -> list[Path]:
    """Write ``comparison.md``, ``.json`` and ``.html`` into ``folder``; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    told = summary(results)
    paths = [folder / f'comparison{suffix}' for suffix in ('.md', '.json', '.html')]
    paths[0].write_text(markdown(told), encoding='utf-8')
    write_json(paths[1], json.loads(json.dumps(told)))
    metrics = measured_metrics(told)
    tables = dict(measured=measured_table(told, metrics), drift=list(drift_tables(told)),
                  differences=difference_table(told, metrics), runs=run_table(told))
    paths[2].write_text(page(told, list(results), tables, [*PREFACE, *_shared(told)[:1]],
                             mask_values), encoding='utf-8')
    return paths
