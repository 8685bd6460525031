"""Receptive-field reports as text and CSV."""

from __future__ import annotations

import csv
from math import inf
from typing import Any, List, Optional, Sequence, TextIO

from .advice.advise import LEAST_GAIN, Advice, recommended
from .analyze import WEIGHTED, FieldSize, LayerField, Report
from .fpn_assignment import LevelBoxes

MASK_NOTE = ('r eff counts Gaussian masks at the size they leave (dynamic masks: for a blank '
             'image). A mask never changes the theoretical field, r min and r max.')

COLUMNS = ('name', 'kind', 'kernel', 'stride', 'dilation', 'map', 'r_min', 'r_max', 'r_effective',
           'jump', 'center', 'status', 'saturated', 'covers_map', 'global_path', 'macs')


def pair(values: Optional[Sequence[Any]]) -> str:
    """``(h, w)`` as ``h x w``, or one number where both are the same."""
    if values is None:
        return '-'
    shown = [_number(v) for v in values]
    return shown[0] if shown[0] == shown[1] else ' x '.join(shown)


def _number(value: Any) -> str:
    if value is None:
        return '-'
    if value == inf:
        return 'inf'
    return f'{value:.1f}'.rstrip('0').rstrip('.') if isinstance(value, float) else str(value)


def _axes(flags: Sequence[bool]) -> str:
    """On which axes something holds: ``''``, ``'h'``, ``'w'`` or ``'hw'``."""
    return ''.join(axis for axis, flag in zip('hw', flags) if flag)


def align(rows: Sequence[Sequence[Any]], heads: Sequence[str]) -> str:
    """A plain-text table."""
    table = [list(map(str, row)) for row in [heads, *rows]]
    widths = [max(len(row[i]) for row in table) for i in range(len(heads))]
    lines = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
             for row in table]
    return '\n'.join([lines[0], '  '.join('-' * width for width in widths), *lines[1:]])


def _layer_row(name: str, layer: LayerField) -> List[str]:
    return [name, layer.kind, pair(layer.kernel), pair(layer.stride), pair(layer.size),
            pair(layer.r_min), pair(layer.r_max), pair(layer.r_effective), pair(layer.jump),
            layer.status if layer.exact else f'{layer.status} (about)',
            _axes(layer.saturated), _axes(layer.covers_map)]


def layer_table(report: Report) -> str:
    """Every layer, then what the numbers add up to."""
    heads = ('layer', 'kind', 'kernel', 'stride', 'map', 'r min', 'r max', 'r eff', 'jump',
             'status', 'saturated', 'map <= kernel')
    rows = [_layer_row(name, layer) for name, layer in report.layers.items()]
    return f'{align(rows, heads)}\n\n{MASK_NOTE}\n\n{summary(report)}'


def summary(report: Report) -> str:
    """The interval of useful sizes and the number of unproductive layers, in three lines."""
    size = ' x '.join(map(str, report.input_size))
    wasted = report.unproductive
    weights = sum(layer.kind in WEIGHTED for layer in report.layers.values())
    lines = [f'input {size} px; useful inputs: {pair(report.min_size)} (largest r min) to '
             f'{pair(report.max_size)} (largest r max)',
             f'{len(wasted)} of {weights} layers with weights are unproductive at this size',
             f'{report.params / 1e6:.2f} M parameters, {report.macs / 1e9:.3f} G multiply-adds']
    return '\n'.join(lines)


def output_table(outputs: Sequence[FieldSize]) -> str:
    """The network's outputs (FPN levels)."""
    heads = ('output', 'map', 'jump', 'r min', 'r max', 'r eff', 'center',
             'sees all by a global path')
    return align([(i, pair(o.size), pair(o.jump), pair(o.r_min), pair(o.r_max), pair(o.r_effective),
                   pair(o.center), _axes(o.has_global_path)) for i, o in enumerate(outputs)], heads)


def level_table(levels: Sequence[LevelBoxes]) -> str:
    """Pyramid levels and their boxes. 'larger' is wider or higher."""
    heads = ('level', 'jump', 'r max', 'r eff', 'r stage', 'boxes', 'larger than r max',
             'than r eff', 'than r stage')
    rows = [(level.level, pair(level.field.jump), pair(level.field.r_max),
             pair(level.field.r_effective), pair(level.stage.r_max if level.stage else None),
             level.boxes, _share(level, level.beyond_field), _share(level, level.beyond_effective),
             _share(level, level.beyond_stage)) for level in levels]
    return (f'{align(rows, heads)}\n\nr max includes the path down from the coarser levels, '
            f'r stage is the backbone map that the level starts from.\n{MASK_NOTE}')


def _share(level: LevelBoxes, count: Optional[int]) -> str:
    share = level.share(count)
    return '-' if share is None else f'{count} ({_percent(share)})'


def _percent(share: Optional[float]) -> str:
    return '-' if share is None else f'{100 * share:.1f} %'


def advice_table(advice: Sequence[Advice]) -> str:
    """The network as it is, then each change of it that runs, the best first, and which is
    recommended."""
    heads = ('change', 'what', 'useful inputs', 'unproductive', 'output strides', 'r eff',
             'M params', 'G multiply-adds', 'boxes too large', 'too small', 'score')
    rows = []
    for item in advice:
        report, scores = item.report, item.scores
        if report is None or scores is None:
            continue
        rows.append((item.change.name, item.change.description,
                     f'{pair(report.min_size)} to {pair(report.max_size)}',
                     len(report.unproductive),
                     ', '.join(pair(o.jump) for o in report.outputs),
                     pair(report.outputs[-1].r_effective), f'{report.params / 1e6:.2f}',
                     f'{report.macs / 1e9:.3f}', _percent(scores.too_large),
                     _percent(scores.too_small), f'{scores.total:.3f}'))
    failed = [f'left out, {item.change.name}: {item.error}' for item in advice
              if item.report is None]
    return '\n'.join([align(rows, heads), '', *failed, MASK_NOTE, '', recommendation(advice)])


def recommendation(advice: Sequence[Advice]) -> str:
    """One or no change, in a sentence."""
    best, now = recommended(advice), advice[0].scores.total
    if best is None:
        return ('recommended: none. No change lowers the score of the network as it is '
                f'({now:.3f}) by {LEAST_GAIN} or more.')
    return (f'recommended: {best.change.name}, {best.change.description} (score '
            f'{best.scores.total:.3f}, as it is {now:.3f}, at {best.scores.cost:.1f} times the '
            'multiply-adds).')


def write_csv(report: Report, file: TextIO) -> None:
    """One line a layer; pairs are ``h x w``."""
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for name, layer in report.layers.items():
        writer.writerow([
            name, layer.kind, pair(layer.kernel), pair(layer.stride), pair(layer.dilation),
            pair(layer.size), pair(layer.r_min), pair(layer.r_max), pair(layer.r_effective),
            pair(layer.jump), pair(layer.center), layer.status, _axes(layer.saturated),
            _axes(layer.covers_map), _axes(layer.has_global_path), layer.macs])
