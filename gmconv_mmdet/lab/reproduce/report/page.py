"""The report of a comparison as one HTML page without outside parts; light and dark."""
from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

_STYLE = '''
:root { color-scheme: light dark; --back: #ffffff; --text: #1c1e21; --dim: #666b73; --line: #d8dbe0;
 --panel: #f6f7f9; --c0: #5b6270; --c1: #0b66c3; --c2: #c2410c; --c3: #15803d; --c4: #9333ea;
 --c5: #b45309; --c6: #be185d; --c7: #0e7490; --truth: #15803d; --found: #d9480f }
@media (prefers-color-scheme: dark) { :root { --back: #16181c; --text: #e8eaed; --dim: #a0a6b0;
 --line: #3a3f47; --panel: #1f2329; --c0: #aab1bd; --c1: #6cb2ff; --c2: #ff9a62; --c3: #6fdd8b;
 --c4: #cf9bff; --c5: #f5c451; --c6: #ff8fbf; --c7: #5fd4e8; --truth: #6fdd8b; --found: #ffa94d } }
body { background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif;
 max-width: 80rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
p, li { max-width: 50rem } .dim { color: var(--dim) } .scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: left;
 white-space: nowrap; vertical-align: top }
td.long { white-space: normal; min-width: 14rem; max-width: 22rem; overflow-wrap: anywhere }
th { color: var(--dim); font-weight: 600 }
.warn { color: var(--c2); font-weight: 600 }
.row { display: flex; flex-wrap: wrap; gap: 1rem }
figure { margin: .7rem 0 0; background: var(--panel);
 border: 1px solid var(--line); border-radius: 6px; padding: .6rem }
figcaption { contain: inline-size; font-size: 13px; color: var(--dim); margin-bottom: .3rem }
svg { display: block } svg text { fill: var(--text); font: 11px system-ui, sans-serif }
svg .dim { fill: var(--dim) } svg .axis { stroke: var(--line) }
details summary { cursor: pointer; color: var(--dim) }
'''
_PANEL = 380, 230  # pixels of a chart
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 12, 10, 30


def page(told: dict, results: Sequence[dict], tables: dict, preface: Sequence[str],
         mask_values: Callable[[dict], list]) -> str:
    """The page.

    Args:
        told (dict): of :func:`.comparison.summary`.
        results (Sequence[dict]): the runs' results.
        tables (dict): name -> (header, body); ``drift``: a list of (header, body, title).
        preface (Sequence[str]): paragraphs.
        mask_values (Callable): of a recorded mask.
    """
    color = _colors(told)
    title = f'{told["config"]}: does it help?'
    verdicts = ''.join(f'<li{_warn(one["verdict"])}>{_text(one["variant"])} seed {one["seed"]}: '
                       f'{_text(one["verdict"])}.</li>' for one in told['masks'])
    drift = ''.join(f'<details><summary>{_text(name)}</summary>{_table(header, body)}</details>'
                    for header, body, name in tables['drift'])
    environment = '; '.join(f'{key} {value}' for key, value in told['environment'].items())
    parts = [
        f'<h1>{_text(title)}</h1>', *(f'<p class="dim">{_text(text)}</p>' for text in preface),
        '<h2>Mean and spread</h2>', _table(*tables['measured']),
        f'<h2>Differences from {_text(told["baseline"])}, paired by seed</h2>',
        _table(*tables['differences']) if told['differences'] else '<p>No pair is finished.</p>',
        _figure('Large points: mean paired difference, line: 95 % interval (cut off where it leaves '
                'the picture), small points: single seeds', found) if (
            found := _differences(told, color)) else '',
        '<h2>Learning curves</h2><div class="row">', _learning(results, color), '</div>',
        '<h2>What the masks learned</h2>', f'<ul>{verdicts}</ul>' if verdicts else
        '<p>No run has masks.</p>', '<div class="row">', _sigmas(results), '</div>', drift,
        _masks(results, mask_values), _detections(results),
        '<h2>Runs</h2>', _table(*tables['runs']),
        f'<p class="dim">Environment: {_text(environment)}.</p>']
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{_text(title)}</title><style>{_STYLE}</style></head><body>\n'
            + '\n'.join(filter(None, parts)) + '\n</body></html>\n')


def difference_picture(told: dict) -> str:
    """The picture of paired differences as an SVG file, for other pages."""
    back = '<rect width="100%" height="100%" fill="var(--back)"/>'
    return _differences(told, _colors(told), f'<style>{_STYLE}</style>{back}') + '\n'


def _colors(told: dict) -> dict[str, str]:
    return {one['name']: f'var(--c{i % 8})' for i, one in enumerate(told['variants'])}


def _text(value: object) -> str:
    return html.escape(str(value))


def _warn(verdict: str) -> str:
    return ' class="warn"' if 'NOTHING' in verdict else ''


def _table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    head = ''.join(f'<th>{_text(cell)}</th>' for cell in header)
    rows = ''.join('<tr>' + ''.join(_cell(cell) for cell in row) + '</tr>'
                   for row in body)
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _cell(cell: str) -> str:
    return f'<td{" class=long" if len(cell) > 40 else ""}>{_text(cell)}</td>'


def _figure(caption: str, svg: str) -> str:
    return f'<figure><figcaption>{caption}</figcaption>{svg}</figure>'


def _svg(width: float, height: float, content: str) -> str:
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">{content}</svg>')


def _line(x1: float, y1: float, x2: float, y2: float, more: str = 'class="axis"') -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {more}/>'


def _label(x: float, y: float, text: object, anchor: str = 'middle', more: str = '') -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{_text(text)}</text>'


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high, four to ten of them."""
    power = 10.0 ** math.floor(math.log10(max(high - low, 1e-9) / 4))
    step = max(power * factor for factor in (1, 2, 5) if power * factor <= (high - low) / 4 or
               factor == 1)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _differences(told: dict, color: dict, first: str = '') -> str:
    """A point and an interval for each variant and metric; '' where there is no pair."""
    rows = [(one['name'], metric, found) for metric in ('AP', 'AP50', 'AP75', 'APS', 'APM', 'APL')
            for one in told['differences'] if (found := one['metrics'][metric]) is not None]
    if not rows:
        return ''
    ends = [0.0] + [value for _, _, found in rows for value in (
        found['mean'], found['low'], found['high'], *found['each']) if value is not None]
    # An interval of two pairs can be as wide as the page: it is cut off, the points are not.
    points = [0.0] + [value for _, _, found in rows for value in (found['mean'], *found['each'])]
    reach = 3 * (max(points) - min(points)) or 1.0
    low, high = max(min(ends), min(points) - reach), min(max(ends), max(points) + reach)
    left, width, step = 190, 760, 20
    scale = (width - left - 20) / (high - low or 1)
    place = lambda value: left + (min(max(value, low), high) - low) * scale  # noqa: E731
    bottom = 12 + step * len(rows)
    out = [_line(place(tick), 4, place(tick), bottom)
           + _label(place(tick), bottom + 15, f'{tick:+g}', more='class="dim"')
           for tick in _ticks(low, high)]
    out.append(_line(place(0), 4, place(0), bottom, 'stroke="var(--text)"'))
    for i, (name, metric, found) in enumerate(rows):
        y, ink = 16 + step * i, color[name]
        out.append(_label(left - 10, y + 4, f'{name}  {metric}', 'end'))
        out += [f'<circle cx="{place(v):.1f}" cy="{y}" r="2" fill="{ink}" opacity=".45"/>'
                for v in found['each']]
        if found['low'] is not None:
            out.append(_line(place(found['low']), y, place(found['high']), y,
                             f'stroke="{ink}" stroke-width="2"'))
        out.append(f'<circle cx="{place(found["mean"]):.1f}" cy="{y}" r="4.5" fill="{ink}"/>')
    out.append(_label((left + width) / 2, bottom + 32, 'difference in points of AP',
                      more='class="dim"'))
    return _svg(width, bottom + 40, first + ''.join(out))


def _chart(caption: str, series: Sequence[tuple[str, Sequence, Sequence, str]], x_name: str,
           from_zero: bool = False) -> str:
    """Lines: (tooltip, xs, ys, style)."""
    xs = [x for _, own, _, _ in series for x in own]
    ys = [y for _, _, own, _ in series for y in own]
    if not xs:
        return ''
    width, height = _PANEL
    x0, x1 = (0 if from_zero else min(xs)), max(xs)
    y0, y1 = min(ys), max(ys)
    margin = 0.06 * (y1 - y0) or max(abs(y1) * 0.02, 0.01)
    y0, y1 = y0 - margin, y1 + margin
    place_x = lambda x: _LEFT + (x - x0) / (x1 - x0 or 1) * (width - _LEFT - _RIGHT)  # noqa: E731
    room = height - _BOTTOM - _TOP
    place_y = lambda y: height - _BOTTOM - (y - y0) / (y1 - y0) * room  # noqa: E731
    ticks = [y for y in _ticks(y0, y1) if y0 <= y <= y1]
    places = max(0, 1 - math.floor(math.log10(y1 - y0)))
    out = [_line(_LEFT, place_y(y), width - _RIGHT, place_y(y))
           + _label(_LEFT - 6, place_y(y) + 4, f'{y:.{places}f}', 'end', 'class="dim"')
           for y in ticks]
    out += [_label(place_x(x), height - _BOTTOM + 15, f'{x:g}', more='class="dim"')
            for x in _ticks(x0, x1) if x == int(x) and x0 <= x <= x1]
    out.append(_label((width + _LEFT) / 2, height - 2, x_name, more='class="dim"'))
    for name, own_x, own_y, style in series:
        points = ' '.join(f'{place_x(x):.1f},{place_y(y):.1f}' for x, y in zip(own_x, own_y))
        out.append(f'<polyline points="{points}" fill="none" {style}><title>{_text(name)}</title>'
                   '</polyline>')
        if len(own_x) == 1:
            out.append(f'<circle cx="{place_x(own_x[0]):.1f}" cy="{place_y(own_y[0]):.1f}" r="3" '
                       f'{style.replace("stroke=", "fill=")}/>')
    return _figure(caption, _svg(width, height, ''.join(out)))


def _learning(results: Sequence[dict], color: dict) -> str:
    ap, loss = [], []
    for result in results:
        style = f'stroke="{color[result["variant"]]}" stroke-width="1.5" opacity=".8"'
        name, past = f'{result["variant"]} seed {result["seed"]}', result['history']
        epochs = [one for one in past['epochs'] if 'mAP' in one]
        ap.append((name, [one['epoch'] for one in epochs], [one['mAP'] for one in epochs], style))
        loss.append((name, past['loss']['steps'], past['loss']['values'], style))
    legend = ', '.join(f'<b style="color:{ink}">{_text(name)}</b>' for name, ink in color.items())
    return (_chart(f'AP on the validation set by epoch: {legend}', ap, 'epoch')
            + _chart(f'Training loss: {legend}', loss, 'iteration', True))


def _sigmas(results: Sequence[dict]) -> str:
    """A chart a variant: every layer's sigma over time, of its first seed."""
    out, seen = [], set()
    for result in results:
        past = result['history']['sigmas']
        keys = sorted((key for key in past['values']
                       if key.partition('/')[0] in ('sigma', 'sigma_x', 'sigma_y')),
                      key=lambda key: key.partition('/')[2])
        if result['variant'] in seen or not keys:
            continue
        seen.add(result['variant'])
        series = []
        for i, key in enumerate(keys):
            pairs = [(x, y) for x, y in zip(past['steps'], past['values'][key]) if y is not None]
            dash = '' if key.startswith('sigma/') else ' stroke-dasharray="4 3"'
            series.append((key, [x for x, _ in pairs], [y for _, y in pairs],
                           f'stroke="hsl({250 - 230 * i / max(1, len(keys) - 1):.0f} 75% 55%)" '
                           f'stroke-width="1.4"{dash}'))
        out.append(_chart(f'{_text(result["variant"])}, seed {result["seed"]}: sigma of every '
                          'layer, blue first to red last; dashed: the dynamic stem, x and y',
                          series, 'iteration', True))
    return ''.join(out)


def _masks(results: Sequence[dict], mask_values: Callable[[dict], list]) -> str:
    """The masks of each variant's first seed at the start and at the end."""
    out, seen = [], set()
    for result in results:
        masks = result['masks']
        if result['variant'] in seen or not masks['final']:
            continue
        seen.add(result['variant'])
        lines = []
        for when in ('initial', 'final'):
            x, content = 40.0, [_label(0, 30, {'initial': 'start', 'final': 'end'}[when], 'start')]
            for mask in masks[when]:
                values = mask_values(mask)
                cell = 44 / max(len(values), len(values[0]))
                for i, row in enumerate(values):
                    content += [f'<rect x="{x + j * cell:.2f}" y="{i * cell + 4:.2f}" '
                                f'width="{cell:.2f}" height="{cell:.2f}" fill="var(--c1)" '
                                f'shape-rendering="crispEdges" fill-opacity="{value:.4f}">'
                                f'<title>{_text(mask["layer"])}: {value:.4f}</title></rect>'
                                for j, value in enumerate(row)]
                content.append(_label(x + 22, 62, f'{min(map(min, values)):.3f}',
                                      more='class="dim"'))
                x += 52
            lines.append(_svg(x, 70, ''.join(content)))
        out.append(_figure(
            f'{_text(result["variant"])}, seed {result["seed"]}: masks from the first layer to the '
            'last, full colour 1; below each its smallest entry (the stem\'s for a blank image)',
            f'<div class="scroll">{"".join(lines)}</div>'))
    return f'<h2>Masks at the start and at the end</h2>{"".join(out)}' if out else ''


def _detections(results: Sequence[dict]) -> str:
    """The same validation images by each variant's first seed."""
    by_variant: dict[str, dict] = {}
    for result in results:
        if result['samples'] and 'error' not in result['samples'][0]:
            by_variant.setdefault(result['variant'], result)
    if not by_variant:
        return ''
    out = []
    for index, sample in enumerate(next(iter(by_variant.values()))['samples']):
        picture = _embedded(sample['image'])
        panels = [_boxes('annotated', sample, sample['truth'], picture, 'var(--truth)')]
        panels += [_boxes(f'{name}, seed {result["seed"]}', sample,
                          result['samples'][index]['found'], picture, 'var(--found)')
                   for name, result in by_variant.items() if index < len(result['samples'])]
        out.append(f'<div class="row">{"".join(panels)}</div><br>')
    return (f'<h2>Detections side by side</h2><p class="dim">Validation images, boxes with a score '
            f'of 0.3 and more. Pictures only; the tables count.</p>{"".join(out)}')


def _boxes(caption: str, sample: dict, boxes: Sequence[Sequence], picture: str | None,
           ink: str) -> str:
    width, height = sample['width'], sample['height']
    shown = 250
    stroke, size = width / 140, width / 26
    content = (f'<image href="{picture}" width="{width}" height="{height}"/>' if picture else
               f'<rect width="{width}" height="{height}" fill="none" class="axis"/>')
    for x1, y1, x2, y2, name, score in boxes:
        content += (f'<rect x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" '
                    f'height="{y2 - y1:.1f}" fill="none" style="stroke:{ink};'
                    f'stroke-width:{stroke:.1f}"><title>{_text(name)} {score:.2f}</title></rect>'
                    f'<text x="{x1:.1f}" y="{y1 - stroke:.1f}" style="font-size:{size:.0f}px;'
                    f'font-weight:600;fill:{ink};stroke:var(--back);stroke-width:{size / 6:.1f}px;'
                    f'paint-order:stroke">{_text(name)}</text>')
    return _figure(_text(caption), f'<svg xmlns="http://www.w3.org/2000/svg" width="{shown}" '
                   f'height="{shown * height / width:.0f}" viewBox="0 0 {width} {height}" '
                   f'role="img">{content}</svg>')


def _embedded(path: str, most: int = 400) -> str | None:
    """An image as a data URL, made small; None where it is not there any more."""
    from PIL import Image
    if not Path(path).is_file():
        return None
    with Image.open(path) as image:
        small = image.convert('RGB')
        small.thumbnail((most, most))
        file = io.BytesIO()
        small.save(file, 'JPEG', quality=70)
    return 'data:image/jpeg;base64,' + base64.b64encode(file.getvalue()).decode()
