"""Print the table of broken and hostile input: every case of tests/hostile is tried, and what it
ends in and says is a line of Markdown. docs/hostile_input.md says what they have in common.

    python tools/dev/hostile_table.py > table.md
"""
from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.hostile import ALL  # noqa: E402
from tests.hostile.case import try_case  # noqa: E402

TITLES = dict(checkpoint='Checkpoints', config='Configs and arguments', annotations='Annotations',
              images='Images', environment='Environment')


def cell(text: str, most: int = 330) -> str:
    text = ' '.join(text.split()).replace('|', '\\|')
    return text if len(text) <= most else text[:most - 4] + ' ...'


def main() -> None:
    warnings.simplefilter('ignore')
    lines = []
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
