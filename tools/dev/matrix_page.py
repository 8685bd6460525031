"""Write docs/tested_versions.md from what tools/dev/matrix.sh left in docs/data/matrix/.

    python tools/dev/matrix_page.py
"""
from __future__ import annotations

import json
import runpy
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
COLUMNS = ('py38-torch1.13', 'py38-torch2.1', 'py310-torch2.1', 'py311-torch2.13',
           'py312-torch2.13', 'py313-torch2.13', 'onedl')
MANY = 5  # skipped tests: fewer are in the JSON files only
HEAD = '''# Tested versions

Versions that work together (`python -m gmconv_mmdet.doctor` says what to change in an environment):

{pairs}

mmdet 3.3 refuses mmcv 2.2 and newer; mmcv 2.1.0 is ready-made for torch 2.1 and older, compiles up to
torch 2.13 and not on 2.15; torch older than 2.3 needs numpy 1; MMEngine 0.10.7 needs setuptools < 82.

## What was tested

`bash tools/dev/matrix.sh COLUMN` makes an environment and tests, on a CPU: `pip install .`, a training with
mmdet's own tools that is killed, resumed and evaluated, and the tests (with version 0.2.0 those of less
than about 5 seconds, since then all but the nightly part). Other packages: `docs/data/matrix`.
'''


def package(versions: dict, name: str) -> str:
    """Version of a package or of OneDL's continuation of it."""
    onedl = versions.get({'mmdet': 'onedl-mmdetection'}.get(name, f'onedl-{name}'))
    return versions.get(name, '-') if onedl is None else f'{onedl} (OneDL)'


def table_row(found: dict) -> str:
    versions, tests = found['versions'], found['tests']
    changed = ', '.join(found['install']['changed']) or 'none'
    return '| ' + ' | '.join([
        f'`{found["column"]}`', found['python'],
        *(package(versions, name) for name in ('torch', 'mmcv', 'mmdet', 'mmengine', 'numpy')),
        changed, f'{found["demo"]["seconds"]} s',
        f'{tests["passed"]} / {tests["failed"]} / {tests["skipped"]}, {tests["seconds"]} s',
        f'`{found["commit"]}`']) + ' |'


def page(columns: list[dict]) -> str:
    """The page's text, from the content of the JSON files."""
    pairs = runpy.run_path(str(REPO / 'gmconv_mmdet' / 'doctor.py'))['pairs_table']()
    lines = [HEAD.format(pairs=pairs), '| column | Python | torch | mmcv | mmdet | mmengine | numpy '
             '| changed by `pip install .` | train, resume, test | tests passed / failed / skipped '
             '| commit |', '|---' * 11 + '|', *map(table_row, columns)]
    skipped = [f'* `{found["column"]}`: {count}, {reason}' for found in columns
               for reason, count in found['tests']['reasons'].items() if count >= MANY]
    if skipped:
        lines += ['', f'Reasons for which {MANY} tests or more were skipped (all are in the JSON files):', '',
                  *skipped]
    failures = [f'* `{found["column"]}`: `{name}`' for found in columns
                for name in found['tests']['failures']]
    if failures:
        lines += ['', 'Tests failed:', '', *failures]
    return '\n'.join(lines) + '\n'


def read_columns(folder: Path) -> list[dict]:
    """Content of the files of ``COLUMNS``, in that order, where they are there."""
    return [json.loads(path.read_text()) for path in (folder / f'{name}.json' for name in COLUMNS)
            if path.exists()]


if __name__ == '__main__':
    text = page(read_columns(REPO / 'docs' / 'data' / 'matrix'))
    (REPO / 'docs' / 'tested_versions.md').write_text(text)
