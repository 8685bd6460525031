"""The table of broken and hostile input, tried case by case.

    python -m tests.hostile.table > docs/hostile_input.md
"""
from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

from . import annotations, checkpoints, configs, environment, images  # noqa: F401  (the cases)
from .case import CASES, try_case

ALL = CASES
HEAD = '''# Broken and hostile input

What becomes of input that is damaged, wrong or hostile: one clear error, or a way on. Made by

    python -m tests.hostile.table > docs/hostile_input.md

which tries every case; `tests/hostile/test_table.py` tries them in the test suite, and asserts that
nothing that was there is changed or lost, that none hangs, and that nothing but a documented error
comes out. Tools end with exit status 1 (2 for arguments) and the text below, without a traceback.

A config is a Python program: reading one runs it, in MMEngine as here. Use those that you trust.
Annotations and images are read by mmdet's own `train.py`, whose faults end in tracebacks that are
not ours; `tools/reproduce.py check` (and `run`, before the first iteration) finds them first, all at
once.
'''
TITLES = dict(checkpoint='Checkpoints', config='Configs and arguments', annotations='Annotations',
              images='Images', environment='Environment')


def cell(text: str, most: int = 330) -> str:
    text = ' '.join(text.split()).replace('|', '\\|')
    return text if len(text) <= most else text[:most - 4] + ' ...'


def main() -> None:
    warnings.simplefilter('ignore')
    lines = [HEAD]
    counts = {True: 0, False: 0}
    for area, title in TITLES.items():
        lines += [f'## {title}', '', '| fault | given to | outcome | what is said |',
                  '|---|---|---|---|']
        for item in (item for item in ALL if item.area == area):
            with tempfile.TemporaryDirectory(prefix='case') as folder:
                outcome = try_case(item, Path(folder))
            assert outcome.refused == item.refused, (item.name, outcome)
            counts[outcome.refused] += 1
            lines.append(f'| {item.fault} | {item.given_to} | '
                         f'{"refused" if outcome.refused else "goes on"} | {cell(outcome.text)} |')
        lines.append('')
    lines.append(f'{sum(counts.values())} cases: {counts[True]} refused with one clear error, '
                 f'{counts[False]} go on as said, 0 end in a bare traceback.')
    sys.stdout.write('\n'.join(lines) + '\n')


if __name__ == '__main__':
    main()
