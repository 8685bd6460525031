"""Effective receptive fields of several models side by side: pictures, and all that is told of them."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from .erf import crop_around, log_scaled
from .erf_result import ErfResult
from .erf_table import all_measures, as_text, measures, ordered_keys, spread, write_csv

_SQUARES = {'side_50': ('-', 'square with 50 % of the mass'), 'side_99': ('--', 'with 99 %')}
_BOX = '#56B4E9'


def write_gallery(results: Sequence[ErfResult], out: Path) -> str:
    """Write ``erf_<name>.png`` and ``erf.csv``, replacing files of these names.

    Returns:
        the table as text, followed by the images that were skipped.
    """
    for name, figure in erf_figures(results).items():
        figure.savefig(out / f'erf_{name}.png', dpi=100)
    rows = all_measures(results)
    write_csv(rows, out / 'erf.csv')
    skipped = {f'skipped {why}' for result in results for why in result.skipped.values()}
    return '\n'.join([as_text(rows), *sorted(skipped)])


def erf_figures(results: Sequence[ErfResult]) -> dict[str, Figure]:
    """Pictures by name, a column for each model: ``'network'`` with a row for each output, or for
    each map on which objects were measured (``'C5'``, ``'P'``) one with a row for each size band."""
    keys = list(dict.fromkeys(key for result in results for key in ordered_keys(result)))
    if results[0].settings['mode'] == 'network':
        count, size = results[0].count(keys[0]), results[0].settings['size']
        return {'network': _figure(results, keys, 'Effective receptive fields of central units, '
                                   f'{count} images of {size} × {size} px')}
    return {kind: _figure(
        results, [key for key in keys if key.startswith(f'{kind}/')],
        'Effective receptive fields of the units at the centres of objects, '
        + ("on each box's pyramid level" if kind == 'P' else f'on {kind}'))
        for kind in dict.fromkeys(key.split('/')[0] for key in keys)}


def _figure(results: Sequence[ErfResult], keys: Sequence[str], title: str) -> Figure:
    figure = Figure(figsize=(max(3.0 * len(results) + 1.1, 6.2), 3.3 * len(keys) + 1.2),
                    layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.06))
    grid = figure.subplots(len(keys), len(results), squeeze=False)
    image, boxes = None, False
    for axes_row, key in zip(grid, keys):
        rows = [measures(r, key) if key in r.sums else None for r in results]
        window = _window([row for row in rows if row], results[0].sums[keys[0]].shape[0])
        for axes, result, row in zip(axes_row, results, rows):
            if row is None:
                axes.axis('off')
                axes.set_title(f'{result.settings["label"]}: no {key}', fontsize=8)
                continue
            image = _draw(axes, result, row, window)
            boxes |= 'box_w' in row
        axes_row[0].set_ylabel(f'{key.replace("/", ", ")}\npx from the unit', fontsize=9)
    for axes, result in zip(grid[0], results):
        axes.set_title('\n'.join((result.settings['label'], result.settings['weights'],
                                  axes.get_title())), fontsize=8)
    figure.colorbar(image, ax=grid, shrink=min(1, 1.6 / len(keys)),
                    label='log10(1 + g / mean g), 1 = maximum')
    handles = [Line2D([], [], color='0.3', ls=style, lw=1, label=text)
               for style, text in _SQUARES.values()]
    if boxes:
        handles.append(Line2D([], [], color=_BOX, lw=1.4, label='mean box'))
    figure.legend(handles=handles, loc='outside lower center', ncols=len(handles), fontsize=8,
                  frameon=False)
    figure.suptitle(f'{title}\nbelow: side of the square with 20 / 30 / 50 / 99 % of the mass '
                    'in px and its share r of the map', fontsize=9)
    return figure


def _window(rows: Sequence[dict[str, Any]], limit: int) -> int:
    """Side of what is shown: all that is drawn, the same for every model, odd."""
    needed = max([row['side_99'] for row in rows]
                 + [row.get(side, 0) for row in rows for side in ('box_w', 'box_h')])
    limit -= 1 - limit % 2
    return min(limit, int(1.1 * needed) // 2 * 2 + 3)


def _draw(axes: Axes, result: ErfResult, row: dict[str, Any], window: int):
    erf_map = result.mean(row['map'])
    centre = erf_map.shape[0] // 2, erf_map.shape[1] // 2
    half = window / 2
    # Scaled before it is cut, so that the colours don't depend on the window.
    image = axes.imshow(crop_around(log_scaled(erf_map), centre, window), vmin=0, vmax=1,
                        cmap='magma', extent=(-half, half, half, -half), interpolation='nearest')
    for side, (style, _) in _SQUARES.items():
        axes.add_patch(Rectangle((-row[side] / 2, ) * 2, row[side], row[side], fill=False,
                                 edgecolor='white', ls=style, lw=0.9, alpha=0.8))
    title = f'{row["count"]} images, radius {row["radius"]:.0f} px'
    if 'box_w' in row:
        x, y = row['box_w'], row['box_h']
        axes.add_patch(Rectangle((-x / 2, -y / 2), x, y, fill=False, edgecolor=_BOX, lw=1.4))
        title = (f'{title.replace("images", "objects")}\n'
                 f'{100 * row["inside"]:.0f} % of the mass in the box')
    axes.set_title(title, fontsize=8)
    axes.set_xlabel('\n'.join(
        f'{name}: {spread(row, f"{prefix}side_")} px, r {spread(row, f"{prefix}r_")} %'
        for name, prefix in (('raw', ''), ('log', 'log_'))), fontsize=7)
    axes.set(xlim=(-half, half), ylim=(half, -half))
    axes.tick_params(labelsize=7)
    return image
