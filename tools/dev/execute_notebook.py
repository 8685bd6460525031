"""Execute a notebook in place and keep its outputs, with the paths of this machine replaced.

    python tools/dev/execute_notebook.py [demo/GMConv_Tutorial.ipynb] [--out OTHER.ipynb]

It runs in an empty folder. Needs docs/requirements.txt.
"""
from __future__ import annotations

import argparse
import json
import re
import resource
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

REPO = Path(__file__).resolve().parents[2]
LIMIT = 1800  # seconds for a cell


def without_paths(text: str, folder: Path) -> str:
    """The text as on a machine whose user is called "me"; colours and times of day go."""
    packages = [path for path in sys.path if path.endswith('site-packages')]
    for path, name in [(str(folder), '/home/me'), (str(REPO), '/home/me/gmconv_mmdet'),
                       *((path, '/home/me/venv/site-packages') for path in packages),
                       (sys.prefix, '/home/me/venv'), (sys.base_prefix, '/usr')]:
        text = text.replace(path, name)
    return re.sub(r'\x1b\[[\d;]*m', '', text)


def joined_streams(outputs: list) -> list:
    """Text that came in several pieces as one."""
    joined: list = []
    for output in outputs:
        if output.output_type == 'stream' and joined and joined[-1].get('name') == output.name:
            joined[-1]['text'] += output['text']
        else:
            joined.append(output)
    return joined


def execute(source: Path, out: Path) -> float:
    """Returns the seconds it took.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(source, as_version=4)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        NotebookClient(
            notebook, timeout=LIMIT, resources={'metadata': {'path': str(folder)}},
            on_cell_executed=lambda cell, cell_index, execute_reply: print(
                f'cell {cell_index} done after {time.monotonic() - start:.0f} s', flush=True)).execute()
    seconds = time.monotonic() - start
    for cell in notebook.cells:
        cell.metadata.pop('execution', None)
        if 'outputs' in cell:
            cell.outputs = joined_streams(cell.outputs)
        for output in cell.get('outputs', []):
            if 'text' in output:
                output['text'] = without_paths(output['text'], folder)
            output.get('data', {}).pop('text/plain' if 'image/jpeg' in output.get('data', {}) else '', None)
    notebook.metadata['language_info'] = {'name': 'python'}  # not this machine's version
    out.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('notebook', nargs='?', type=Path, default=REPO / 'demo' / 'GMConv_Tutorial.ipynb')
    parser.add_argument('--out', type=Path, help='default: in place')
    args = parser.parse_args()
    out = args.out or args.notebook
    seconds = execute(args.notebook, out)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f'{seconds / 60:.1f} min, {(spent.ru_utime + spent.ru_stime) / 60:.1f} min of one core, '
          f'{out.stat().st_size / 1e6:.2f} MB')


if __name__ == '__main__':
    main()
