"""Receptive-field reports as text."""
from __future__ import annotations

from math import inf
from typing import Any, Sequence

from .advice.advise import LEAST_GAIN, Advice, recommended
from .analyze import WEIGHTED, FieldSize, Report
from .fpn_assignment import LevelBoxes

MASK_NOTE = ('r eff counts Gaussian masks at the size they leave (dynamic masks: for a blank '
             'image). A mask never changes the theoretical field, r min and r max.')


def pair(values: Sequence[Any] | None) -> str:
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


def layer_table(report: Report) -> str:
    """Every layer, then what the numbers add up to."""
    heads = ('layer', 'kind', 'kernel', 'stride', 'map', 'r min', 'r max', 'r eff', 'jump', 'status',
             'saturated')
    rows = [(name, layer.kind, pair(layer.kernel), pair(layer.stride), pair(layer.size),
             pair(layer.r_min), pair(layer.r_max), pair(layer.r_effective), pair(layer.jump),
             layer.status + ' (about)' * (not layer.exact), _axes(layer.saturated))
            for name, layer in report.layers.items()]
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
             pair(level.field.r_effective), pair(level.stage and level.stage.r_max), level.boxes,
             *(f'{n} ({_percent(n / level.boxes)})' if level.boxes and n is not None else '-' for n in
               (level.beyond_field, level.beyond_effective, level.beyond_stage)))
            for level in levels]
    return (f'{align(rows, heads)}\n\nr max includes the path down from the coarser levels, '
            f'r stage is the backbone map that the level starts from.\n{MASK_NOTE}')


def _percent(share: float | None) -> str:
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
    best, now = recommended(advice), advice[0].scores.total
    verdict = (f'none. No change lowers the score of the network as it is ({now:.3f}) by {LEAST_GAIN} '
               'or more.' if best is None else
               f'{best.change.name}, {best.change.description} (score {best.scores.total:.3f}, as it '
               f'is {now:.3f}, at {best.scores.cost:.1f} times the multiply-adds).')
    return '\n'.join([align(rows, heads), '', *failed, MASK_NOTE, '', f'recommended: {verdict}'])
