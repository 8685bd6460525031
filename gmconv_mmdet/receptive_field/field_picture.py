"""A picture of a network: the receptive field of every layer, coloured by status."""
from __future__ import annotations

from math import inf

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .analyze import Report

# Told apart by colour-blind readers too (Okabe & Ito).
COLOURS = {'productive': '#009E73', 'critical': '#E69F00', 'unproductive': '#D55E00',
           'global': '#9E9E9E'}
MEANING = {'productive': 'adds context', 'critical': 'own smallest field exceeds the image',
           'unproductive': 'every path into it sees the whole image',
           'global': 'behind global paths only'}


def field_figure(report: Report, title: str = '') -> Figure:
    """One row a layer, in the order in which they run, from the image at the top.

    The bar goes from ``r_min`` to ``r_max`` (the larger axis of each), the mark inside it is
    ``r_effective``, and the line is the input size. The scale is logarithmic.
    """
    layers = list(report.layers.values())
    figure = Figure(figsize=(9, max(2.8, 1.6 + 0.17 * len(layers))), layout='constrained')
    axes = figure.add_subplot()
    limit = 1.3 * max([*report.input_size, *(max(l.r_max) for l in layers if max(l.r_max) < inf)])
    for row, layer in enumerate(layers):
        low, high = (min(max(r), limit) for r in (layer.r_min, layer.r_max))
        if layer.status == 'global':
            low = 0.7
        axes.barh(row, max(high - low, 0), left=low, height=0.72, color=COLOURS[layer.status],
                  alpha=0.55)
        axes.plot([low, low], [row - 0.36, row + 0.36], color=COLOURS[layer.status], lw=3)
        if layer.r_effective != layer.r_max:
            axes.plot(max(layer.r_effective), row, 'k|', ms=6)
    axes.axvline(max(report.input_size), color='black', lw=1, ls='--')
    axes.set(xscale='log', xlim=(0.7, limit), ylim=(len(layers) - 0.4, -0.6),
             xlabel='receptive field in input pixels', title=title)
    axes.set_yticks(range(len(layers)), list(report.layers), fontsize=6)
    axes.xaxis.set_major_formatter('{x:g}')
    axes.grid(axis='x', which='major', lw=0.4)
    handles: list = [Patch(color=COLOURS[status], alpha=0.7, label=f'{status}: {meaning}')
                     for status, meaning in MEANING.items()]
    handles.append(Line2D([], [], color='black', ls='--', lw=1, label='input size'))
    handles.append(Line2D([], [], color='black', marker='|', ls='',
                          label='mask-weighted field (masks never change the theoretical one)'))
    figure.legend(handles=handles, loc='outside lower center', ncols=2, fontsize=7, frameon=False)
    return figure
