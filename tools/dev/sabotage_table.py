"""Make every sabotage of tests/preflight, print the one line with which `tools/doctor.py CONFIG`
answers, and write the shorter ones into the table of docs/preflight.md.

    GMCONV_SHARED_DATA=... python tools/dev/sabotage_table.py
"""
from __future__ import annotations

import os
import re
import sys
import tempfile
import warnings
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO))
from tests.preflight.sabotages import SABOTAGES, answer, prepared  # noqa: E402

PAGE = REPO / 'docs' / 'preflight.md'
START, END = '<!-- printed by tools/dev/sabotage_table.py -->\n', '<!-- end -->\n'


SHOWN = 170  # letters of an answer, in the page


def cell(text: str) -> str:
    return ' '.join(text.split()).replace('|', '\\|').replace('<', '&lt;')


def main() -> None:
    warnings.simplefilter('ignore')
    data = Path(os.environ.get('GMCONV_SHARED_DATA') or REPO.parent / 'shared' / 'data')
    lines = ['| sabotage | what the doctor says |', '|---|---|']
    for item in SABOTAGES:
        with tempfile.TemporaryDirectory() as folder:
            os.environ['TORCH_HOME'] = f'{folder}/torch'
            status, said = answer(prepared(item, Path(folder) / 'data', data))
        fault, = (line for line in said if line.startswith('fault'))
        assert status == 1 and re.search(item.says, fault), (item.fault, said)
        text = fault[22:].replace(f'{folder}/data/', '').replace(f'{folder}/data', 'DATA').replace(
            f'{folder}/torch', 'TORCH_HOME').replace(f'{REPO}/', '')
        line = f'| {cell(item.fault)} | {cell(text)} |'
        print(line, flush=True)
        if len(text) <= SHOWN:
            lines.append(line)
    lines.append(f'\n{len(SABOTAGES)} sabotages, each answered by one line, 0 bare tracebacks.')
    before, rest = PAGE.read_text(encoding='utf-8').split(START)
    PAGE.write_text(before + START + '\n' + '\n'.join(lines) + '\n\n' + END + rest.split(END)[1],
                    encoding='utf-8')


if __name__ == '__main__':
    main()
