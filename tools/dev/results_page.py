"""Print every table and chart of docs/results.md anew from docs/data.

    python tools/dev/results_page.py [DOCS]

What stands between ``<!-- results: NAME -->`` and ``<!-- end -->`` is replaced; pictures go to
images/ beside the page.
"""
from __future__ import annotations

import csv
import json
import re
import sys
from collections import defaultdict
from pathlib import Path

from gmconv_mmdet.lab.cifar10_report import report
from gmconv_mmdet.lab.reproduce.report.comparison import difference_tables, read_results, summary
from gmconv_mmdet.lab.reproduce.report.page import difference_picture
from gmconv_mmdet.lab.reproduce.report.paired_stats import (
    paired_difference,
    paired_values,
    summarize,
)
from gmconv_mmdet.messages import markdown_table

DOCS = Path(__file__).resolve().parents[2] / 'docs'


def detection(docs: Path, name: str) -> str:
    """Means, paired differences and what masks learned of a comparison, and its picture."""
    if not any((docs / 'data' / name).glob('*-seed*.json')):
        return ''
    told = summary(read_results(docs / 'data' / name))
    lines = difference_tables(told)
    if told['differences']:
        picture = docs / 'images' / f'{name}-differences.svg'
        picture.parent.mkdir(exist_ok=True)
        picture.write_text(difference_picture(told), encoding='utf-8')
        lines += ['', f'![Paired differences in AP with 95 % intervals](images/{picture.name})']
    if told['masks']:
        lines += ['', 'The largest change of a sigma, or of the bias that predicts it, in per cent '
                  'of its start:', '', *learned(told['masks'])]
    return '\n'.join(lines)


def learned(stories: list[dict]) -> list[str]:
    """A line a variant: what gradients and what weight decay did at most, from run to run."""
    body = []
    for variant in dict.fromkeys(story['variant'] for story in stories):
        runs = [story for story in stories if story['variant'] == variant]
        moved = {key: [100 * max(abs(number[key] / number['start']) for number in run['numbers'])
                       for run in runs] for key in ('by_gradient', 'by_decay')}
        body.append([variant, str(len(runs)),
                     *(f'{min(values):.1f} to {max(values):.1f}' for values in moved.values()),
                     ', '.join(f'{run["seed"]}' for run in runs if 'NOTHING' in run['verdict'])
                     or 'none'])
    return markdown_table(['variant', 'runs', 'by gradients', 'by weight decay',
                           'seeds whose masks learned nothing (less than 1 % by gradients)'], body)


def classification(docs: Path, name: str) -> str:
    """Accuracies and masks of CIFAR-10 networks: of the recipe study by stage, else by layer."""
    return report(list((docs / 'data' / name).glob('*.json')),
                  'stage' if name == 'recipe' else 'layer')


# Column of erf.csv, factor to the unit of the table, decimals, title.
FIELD_NUMBERS = (('radius', 1, 1, 'radius, px'), ('r_50', 100, 2, 'r(50 %), %'),
                 ('r_99', 100, 1, 'r(99 %), %'))


def fields(docs: Path, name: str) -> str:
    """Effective receptive fields over seeds, from a table erf.csv a seed, and their pictures."""
    values: dict = defaultdict(dict)  # (map, model, column) -> {seed: value}
    for table in (docs / 'data' / name).glob('seed*.csv'):
        with table.open(encoding='utf-8') as file:
            for row in csv.DictReader(file):
                if int(row['count']) > 1:  # one large object in the test images shows nothing
                    for column, factor, *_ in FIELD_NUMBERS:
                        values[row['map'], row['model'], column][int(table.stem[4:])] = (
                            float(row[column]) * factor)
    body = []
    for where, model in dict.fromkeys((where, model) for where, model, _ in sorted(
            values, key=lambda key: (key[0], key[1] != 'plain'))):
        cells = []
        for column, _, digits, _ in FIELD_NUMBERS:
            own, plain = values[where, model, column], values[where, 'plain', column]
            found = summarize(list(own.values()))
            spread = '' if found.spread is None else f' ± {found.spread:.{digits}f}'
            difference = paired_difference(paired_values(own, plain))
            cells += [f'{found.mean:.{digits}f}{spread}',
                      '' if model == 'plain' or difference is None else difference.text(digits)]
        body.append([where, model, ' '.join(map(str, sorted(own))), *cells])
    if not body:
        return ''
    header = ['map/objects', 'variant', 'seeds']
    for *_, title in FIELD_NUMBERS:
        header += [title, 'difference']
    return '\n'.join(markdown_table(header, body))


def times(docs: Path, name: str) -> str:
    """Inference times of trained backbones, and how many layers a crop would change."""
    lines = []
    for path in sorted((docs / 'data' / name).glob('seed*.json')):
        told = json.loads(path.read_text(encoding='utf-8'))
        lines += ['', f'Seed {path.stem[4:]}; {told["threads"]} thread(s), PyTorch '
                  f'{told["environment"]["PyTorch"].split(" (")[0]}:', '', *markdown_table(
                      ['backbone', 'median, ms', 'ratio to plain', 'quartiles'],
                      [[row['name'], f'{1000 * row["seconds"]:.1f}', f'{row["ratio"]:.3f}',
                        f'{row["ratio_low"]:.3f} to {row["ratio_high"]:.3f}'] for row in told['rows']]),
                  '', f'Layers that a crop at {told["crop"]:g} would make smaller: ' + ', '.join(
                      f'{len(layers)} of {variant}' for variant, layers in told['layers_cropped'].items())
                  + '.']
    return '\n'.join(lines).strip()


SECTIONS = {'deeppcb': detection, 'deeppcb-warm': detection, 'recipe': classification,
            'cifar10': classification, 'fields': fields, 'times': times}


def rewrite(docs: Path) -> None:
    """Replace the sections of ``docs/results.md``."""
    page = docs / 'results.md'

    def section(match: re.Match) -> str:
        text = SECTIONS[match[1]](docs, match[1]) or 'No run is finished.'
        return f'<!-- results: {match[1]} -->\n\n{text}\n\n<!-- end -->'

    page.write_text(re.sub(r'<!-- results: (\S+) -->.*?<!-- end -->', section,
                           page.read_text(encoding='utf-8'), flags=re.DOTALL), encoding='utf-8')


if __name__ == '__main__':
    rewrite(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS)
