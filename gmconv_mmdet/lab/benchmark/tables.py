"""Results as Markdown tables."""
from __future__ import annotations

from typing import Any

from .suite import Case


def title(run: dict[str, Any]) -> str:
    """A comparison's settings on one line."""
    fields = {name: run[name] for name in Case.__dataclass_fields__}
    where = f'CPU, {run["threads"]} threads' if run['device'] == 'cpu' else 'CUDA'
    return f'{Case(**fields).title()} ({where})'


def run_table(run: dict[str, Any]) -> list[str]:
    """Lines of one comparison's table: times, their ratios to the first variant, peak memory."""
    peaks = run.get('peak_bytes', {})
    head = ['network', 'rounds', 'median (ms)', 'ratio', 'quartiles']
    if peaks:
        head += ['peak memory (MB)', 'ratio']
    lines = [_line(head), _line(['---'] * len(head))]
    for row in run['rows']:
        cells = [row['name'], str(row['rounds']), f'{row["seconds"] * 1e3:.1f}', f'{row["ratio"]:.3f}',
                 f'{row["ratio_low"]:.3f} - {row["ratio_high"]:.3f}']
        if peaks:
            peak = peaks[row['name']]
            cells += [f'{peak / 1e6:.1f}', f'{peak / peaks[run["rows"][0]["name"]]:.4f}']
        lines.append(_line(cells))
    return lines


def _line(cells: list[str]) -> str:
    return f'| {" | ".join(cells)} |'
