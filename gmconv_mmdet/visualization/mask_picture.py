"""Pictures of masks: every layer's and each stage's average (the paper's Fig. 7), and the sigmas
that dynamic layers predict for images."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..layers import gaussian_mask
from .image_files import read_image
from .masks import LayerMask, stage_averages

PER_ROW = 7  # masks side by side
EXAMPLES = 4  # images at each end of the predicted sigmas
_COLOURS = dict(vmin=0, vmax=1, cmap='viridis', interpolation='nearest')


def mask_figure(masks: Sequence[LayerMask], title: str) -> Figure:
    """One row for each stage: its layers' masks, and their average as the last one.

    Raises:
        ValueError: if there is no mask to draw.
    """
    if not masks:
        raise ValueError('the network has no GMConv layer with a mask, nothing to draw')
    rows = _rows(masks)
    columns = max(len(panels) for _, panels in rows)
    figure = Figure(figsize=(max(1.35 * columns + 1.2, 7.5), 1.62 * len(rows) + 1.3),
                    layout='constrained')
    grid = figure.subplots(len(rows), columns, squeeze=False)
    image = None
    for axes_row, (stage, panels) in zip(grid, rows):
        for axes, mask in zip(axes_row, panels):
            image = _draw_mask(axes, mask)
        for axes in axes_row[len(panels):]:
            axes.axis('off')
        axes_row[0].set_ylabel(stage, fontsize=10, fontweight='bold')
    figure.suptitle(title, fontsize=10)
    figure.supxlabel(
        'σ in kernel cells (x, y where they differ)   k: effective kernel size in cells, '
        'of the mask → of mask × |weight|', fontsize=8)
    figure.colorbar(image, ax=grid, shrink=min(1, 2.2 / len(rows)), label='mask value')
    return figure


def _rows(masks: Sequence[LayerMask]) -> list[tuple[str, list[LayerMask]]]:
    averages = stage_averages(masks)
    rows = []
    for stage in dict.fromkeys(mask.stage for mask in masks):
        panels = [m for m in (*masks, *averages) if m.stage == stage]
        # Rows of equal length, or the average would stand alone where one is left over.
        count = -(-len(panels) // PER_ROW)
        length = -(-len(panels) // count)
        rows += [(stage, panels[i:i + length]) for i in range(0, len(panels), length)]
    return rows


def _short(mask: LayerMask) -> str:
    if mask.kind == 'average':
        return mask.name
    parts = [p for p in mask.name.split('.') if p not in ('backbone', 'neck', 'module')]
    if parts and parts[0].startswith('layer') and len(parts) > 2:
        return f'block {parts[1]}, {".".join(parts[2:])}'
    name = '.'.join(parts)
    return name if len(name) <= 22 else f'…{name[-21:]}'


def _sigma_text(mask: LayerMask) -> str:
    x, y = (f'{s:.2f}' if s < 100 else f'{s:.3g}' for s in mask.sigma)
    both = x if x == y else f'{x}, {y}'
    if mask.sigma_std is not None:
        return f'σ {both} ({mask.images} images)'
    return f'σ {both} (blank image)' if mask.kind == 'dynamic' else f'σ {both}'


def _size_text(extent: tuple[float, float]) -> str:
    h, w = (f'{n:.2f}' for n in extent)
    return h if h == w else f'{h}×{w}'


def _draw_mask(axes: Axes, mask: LayerMask):
    image = axes.imshow(mask.mask.numpy(), **_COLOURS)
    heavy = dict(fontweight='bold') if mask.kind == 'average' else {}
    axes.set_title(f'{_short(mask)}\n{_sigma_text(mask)}\n'
                   f'k {_size_text(mask.extent)} → {_size_text(mask.weighted_extent)}',
                   fontsize=6.5, **heavy)
    axes.set(xticks=[], yticks=[])
    if mask.mask.numel() <= 9:
        for (row, column), value in np.ndenumerate(mask.mask.numpy()):
            axes.text(column, row, f'{value:.2f}', ha='center', va='center', fontsize=6,
                      color='black' if value > 0.6 else 'white')
    return image


def sigma_figure(predicted: Mapping[str, Tensor], kernel_sizes: Mapping[str, tuple[int, int]],
                 files: Sequence[str | Path], title: str) -> Figure:
    """Sigmas over images: where they lie, and the images at both ends with their masks.

    Args:
        predicted: from :func:`.masks.predicted_sigmas`, one row for each of ``files``.
        kernel_sizes: of the same layers.
        files: the images, in the order of the rows.
    """
    figure = Figure(figsize=(4 + 1.5 * EXAMPLES, 3.9 * len(predicted) + 0.5), layout='constrained')
    figure.suptitle(title, fontsize=10)
    figure.supxlabel('below each image its mask (dark 0, bright 1) and σ along x, y', fontsize=8)
    parts = figure.subfigures(len(predicted), 1, squeeze=False)[:, 0]
    for part, (name, sigmas) in zip(parts, predicted.items()):
        _draw_layer(part, name, sigmas, kernel_sizes[name], files)
    return figure


def _draw_layer(part, name: str, sigmas: Tensor, kernel_size: tuple[int, int],
                files: Sequence[str | Path]) -> None:
    count = min(EXAMPLES, max(1, len(sigmas) // 2))
    grid = part.add_gridspec(4, 2 + count, width_ratios=[3.2, 0.1] + [1] * count)
    order = sigmas.prod(1).argsort()
    ends = {'smallest': order[:count], 'largest': order.flip(0)[:count].flip(0)}
    axes = part.add_subplot(grid[:, 0])
    axes.scatter(*sigmas.T.numpy(), s=9, color='#0072B2', alpha=0.6)
    for end, chosen, colour in zip(ends, ends.values(), ('#D55E00', '#009E73')):
        axes.scatter(*sigmas[chosen].T.numpy(), s=26, facecolors='none', edgecolors=colour,
                     label=f'{count} {end}')
    mean, std = sigmas.mean(0), sigmas.std(0, correction=0)
    axes.set_title(f'{name}: {len(sigmas)} images\nσx {mean[0]:.3f} ± {std[0]:.3f}, '
                   f'σy {mean[1]:.3f} ± {std[1]:.3f} (mean ± std)', fontsize=8)
    axes.set(xlabel='σ along x (kernel cells)', ylabel='σ along y (kernel cells)')
    axes.ticklabel_format(useOffset=False)
    axes.tick_params(labelsize=7)
    axes.margins(0.1)
    axes.legend(fontsize=7)
    for row, (end, chosen) in enumerate(ends.items()):
        for column, index in enumerate(chosen.tolist()):
            axes = part.add_subplot(grid[2 * row, 2 + column])
            axes.imshow(read_image(files[index])[..., ::-1])
            axes.set_title(f'{end} σ' if column == 0 else '', fontsize=8, loc='left')
            axes.axis('off')
            axes = part.add_subplot(grid[2 * row + 1, 2 + column])
            axes.imshow(gaussian_mask(kernel_size, sigmas[index]).numpy(), **_COLOURS)
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel('σ {:.3f}, {:.3f}'.format(*sigmas[index].tolist()), fontsize=7)
