"""Results as Markdown tables."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .suite import Comparison


def title(run: dict[str, Any]) -> str:
    """A comparison's settings on one line."""
    fields = {name: run[name] for name in Comparison.__dataclass_fields__}
    where = f'CPU, {run["threads"]} threads' if run['device'] == 'cpu' else 'CUDA'
    return f'{Comparison(**fields).title()} ({where})'


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


def shares_tables(shares: dict[str, Any]) -> list[str]:
    """Lines of the tables of :func:`~gmconv_mmdet.lab.benchmark.time_shares.measure`."""
    lines = []
    for what, unit in (('training', f'an iteration of {shares["images_per_iteration"]} images'),
                       ('evaluation', 'an image')):
        total = sum(shares[what].values())
        lines += [_line([what, f'seconds, {unit}', 'share']), _line(['---'] * 3)]
        lines += [_line([phase, f'{seconds:.3f}', f'{seconds / total:.1%}'])
                  for phase, seconds in shares[what].items()]
        lines += [_line(['all', f'{total:.3f}', '100.0%']), '']
    profile = shares['profile']
    lines += [f'First lines of a profile of one training iteration ({profile["seconds"]:.1f} s), '
              'by time in the function itself:', '',
              _line(['', 'function', 'seconds', 'share']), _line(['---'] * 4)]
    lines += [_line([str(rank), f'`{line["name"]}`', f'{line["seconds"]:.3f}',
                     f'{line["share"]:.1%}']) for rank, line in enumerate(profile['lines'][:5], 1)]
    first = profile.get('ours')
    if first is not None:
        lines += ['', f'The first line of this package is number {first["rank"]}: `{first["name"]}`, '
                  f'{first["seconds"]:.3f} s, {first["share"]:.2%}.']
    return lines


def environment_lines(results: dict[str, Any]) -> Iterator[str]:
    """Where a file of results comes from."""
    found = results['environment']
    names = ('GPU 0', 'PyTorch', 'mmcv', 'mmdet', 'numpy', 'Python')
    versions = ', '.join(f'{name} {found[name].split(" (")[0]}' for name in names if name in found)
    yield f'`{results["command"]}`'
    yield ''
    load = results.get('load_average')
    yield '; '.join([
        *filter(None, [results.get('processor')]),
        versions,
        f'code {results["code"][:10]}{"+changes" * results["code"].endswith("+changes")}',
        *([] if load is None else [f'load average at the start {load:.2f}'])]) + '.'
    if 'note' in results:
        yield ''
        yield results['note']
