"""Print every table and picture of docs/results.md anew from the JSON in docs/data.

    python tools/dev/results_page.py [DOCS]

What stands between ``<!-- results: NAME -->`` and ``<!-- end -->`` is replaced; pictures go to
images/ beside the page.
"""
from __future__ import annotations

import re
import sys
from pathlib import Path

from gmconv_mmdet.lab.cifar10_report import report
from gmconv_mmdet.lab.reproduce.report.comparison import difference_tables, read_results, summary
from gmconv_mmdet.lab.reproduce.report.page import difference_picture

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
        lines += ['', *(f'* {one["variant"]} seed {one["seed"]}: {one["verdict"]}.'
                        for one in told['masks'])]
    return '\n'.join(lines)


def classification(docs: Path, name: str) -> str:
    """Accuracies and masks of CIFAR-10 networks: of the recipe study by stage, else by layer."""
    return report(list((docs / 'data' / name).glob('*.json')),
                  'stage' if name == 'recipe' else 'layer')


SECTIONS = {'deeppcb': detection, 'deeppcb-refconv': detection, 'recipe': classification,
            'cifar10': classification}


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
