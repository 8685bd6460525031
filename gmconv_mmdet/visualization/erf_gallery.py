"""Effective receptive fields of models in a folder: one ``.npz`` a model, pictures and a table."""
from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .erf_picture import erf_figures
from .erf_result import ErfResult
from .erf_table import all_measures, as_text, write_csv


def result_file(out: Path, label: str) -> Path:
    """Where a model's measurement is kept."""
    return out / f'{re.sub(r"[^A-Za-z0-9._-]+", "-", label)}.npz'


def saved_results(out: Path) -> list[ErfResult]:
    """All measurements in a folder, in the order in which they were finished.

    Raises:
        FileNotFoundError: there is none.
    """
    files = sorted(out.glob('*.npz'), key=lambda file: file.stat().st_mtime_ns)
    if not files:
        raise FileNotFoundError(f'{out} holds no measurement (*.npz)')
    return [ErfResult.load(file) for file in files]


def write_gallery(results: Sequence[ErfResult], out: Path) -> str:
    """Write ``erf_<name>.png`` and ``erf.csv``, replacing files of these names.

    Returns:
        the table as text, followed by the images that were skipped.
    """
    for name, figure in erf_figures(results).items():
        figure.savefig(out / f'erf_{name}.png', dpi=100)
    rows = all_measures(results)
    with open(out / 'erf.csv', 'w', newline='', encoding='utf-8') as file:
        write_csv(rows, file)
    skipped = {f'skipped {why}' for result in results for why in result.skipped.values()}
    return '\n'.join([as_text(rows), *sorted(skipped)])
