"""Measures of effective receptive fields, model by model, as text and CSV."""
from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..receptive_field.field_table import align
from .coco_objects import BANDS
from .erf import SHARES, area_ratio, log_scaled, second_moment_radius
from .erf_result import ErfResult

NOTE = ('side of the smallest centred square with more than 20 / 30 / 50 / 99 % of the mass, and '
        'its share r of the map; "log" on log10(1 + g), g in units of the mean of the map')


def measures(result: ErfResult, key: str) -> dict[str, Any]:
    """What is known of one average map.

    Returns:
        dict: ``model``, ``weights``, ``map`` (``'C5'`` or ``'P/small'``), ``count`` (of images or
        objects), ``radius`` (px); for each ``t`` in percent ``side_20`` (px), ``r_20``,
        ``log_side_20``, ``log_r_20``; of objects also the means ``box_w``, ``box_h`` (px),
        ``inside`` and ``in_crop`` (shares of the mass), ``radius`` then being that of
        the uncropped fields.
    """
    erf_map = result.mean(key)
    row = dict(model=result.settings['label'], weights=result.settings['weights'], map=key,
               count=result.count(key), radius=second_moment_radius(erf_map))
    for prefix, scaled in (('', erf_map), ('log_', log_scaled(erf_map))):
        for t in SHARES:
            ratio, side = area_ratio(scaled, t)
            row.update({f'{prefix}side_{100 * t:.0f}': side, f'{prefix}r_{100 * t:.0f}': ratio})
    objects = [row for row in result.rows if row['key'] == key and 'box' in row]
    if objects:
        mean = {name: np.mean([item[name] for item in objects], 0) for name in
                ('box', 'inside', 'in_crop')}
        x1, y1, x2, y2 = mean['box'].tolist()
        row.update(box_w=x2 - x1, box_h=y2 - y1, inside=float(mean['inside']),
                   in_crop=float(mean['in_crop']),
                   # Every field has mass 1, so squares of radii average.
                   radius=float(np.mean([item['radius']**2 for item in objects])**0.5))
    return row


def all_measures(results: Sequence[ErfResult]) -> list[dict[str, Any]]:
    """Every map of every model, the models of one map side by side."""
    keys = dict.fromkeys(key for result in results for key in ordered_keys(result))
    return [measures(result, key) for key in keys for result in results if key in result.sums]


def ordered_keys(result: ErfResult) -> list[str]:
    """Keys of the maps: in the order asked for, or by map and then by size."""
    if result.settings['mode'] == 'network':
        return [key for key in result.settings['outputs'] if key in result.sums]
    bands = list(BANDS)
    return sorted(result.sums, key=lambda key: (key.split('/')[0], bands.index(key.split('/')[1])))


def write_csv(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """One line a map; sides and radii in pixels of the network's input, ratios as fractions."""
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({key: f'{value:.5g}' if isinstance(value, float) else value
                          for key, value in row.items()} for row in rows)


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    """A plain-text table of :func:`all_measures`."""
    objects = 'inside' in rows[0]
    heads = ['map', 'model', 'objects' if objects else 'images', 'radius px', 'side px', 'r %',
             'log side px', 'log r %'] + ['in box %', 'in crop %'] * objects
    lines = []
    for row in rows:
        cells = [row['map'], row['model'], row['count'], f'{row["radius"]:.1f}']
        for prefix in ('', 'log_'):
            cells += [spread(row, f'{prefix}side_'), spread(row, f'{prefix}r_')]
        if objects:
            cells += [f'{100 * row["inside"]:.1f}', f'{100 * row["in_crop"]:.1f}']
        lines.append(cells)
    return f'{align(lines, heads)}\n\n{NOTE}'


def spread(row: dict[str, Any], name: str) -> str:
    """``'45 / 61 / 95 / 301'`` of ``side_``, in percent of ``r_``."""
    values = [row[f'{name}{100 * t:.0f}'] for t in SHARES]
    return ' / '.join(str(v) if isinstance(v, int) else f'{100 * v:.2g}' if v < .1 else
                      f'{100 * v:.0f}' for v in values)
