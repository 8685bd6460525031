"""Everything that is known of a model's masks as pictures and tables: every layer's and each stage's
average (the paper's Fig. 7), and the sigmas that dynamic layers predict for images."""
from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from ..layers import gaussian_mask
from ..layers.find_layers import gm_layers
from .image_files import UnusableImage, network_input, read_image, resized
from .masks import LayerMask, describe_masks, predicted_sigmas, stage_averages, write_csv
from .measured_model import MeasuredModel

PER_ROW = 7  # masks side by side
EXAMPLES = 4  # images at each end of the predicted sigmas
_COLOURS = dict(vmin=0, vmax=1, cmap='viridis', interpolation='nearest')


def write_masks(model: MeasuredModel, out: Path, images: Sequence[Path] = (),
                size: int | None = None) -> list[LayerMask]:
    """Write ``masks.png`` and ``masks.csv``, and ``dynamic_sigmas.png`` and ``.csv`` where there
    are dynamic layers and images; returns the masks, layer by layer.

    Args:
        out: folder, made where it does not exist; files of these names are replaced.
        images: for dynamic layers; one that can't be read is named and left out.
        size: fit images into ``size x size`` pixels instead of the config's test scale.

    Raises:
        ValueError: the model has no masked layer, or no image could be read.
    """
    layers = gm_layers(model.network)
    if not layers:
        raise ValueError(f'{model.label} has no GMConv layer with a mask, nothing to draw')
    predicted, files = {}, []
    if images and any(layer.dynamic for layer in layers.values()):
        inputs = _readable(model, tqdm(images, desc='images', unit='image'), size, files)
        predicted = predicted_sigmas(model.network, inputs)
        if not files:
            raise ValueError(f'none of {len(images)} images could be read, see above')
    masks = describe_masks(model.network, predicted)
    title = f'{model.label}: {model.weights}'
    out.mkdir(parents=True, exist_ok=True)
    mask_figure(masks, title).savefig(out / 'masks.png', dpi=130)
    with open(out / 'masks.csv', 'w', newline='', encoding='utf-8') as file:
        write_csv([*masks, *stage_averages(masks)], file)
    if files:
        kernels = {name: layers[name].kernel_size for name in predicted}
        sigma_figure(predicted, kernels, files, title).savefig(out / 'dynamic_sigmas.png', dpi=110)
        with open(out / 'dynamic_sigmas.csv', 'w', newline='', encoding='utf-8') as file:
            writer = csv.writer(file)
            writer.writerow(('layer', 'image', 'sigma_x', 'sigma_y'))
            for name, sigmas in predicted.items():
                writer.writerows((name, path.name, f'{x:.6g}', f'{y:.6g}')
                                 for path, (x, y) in zip(files, sigmas.tolist()))
    return masks


def _readable(model: MeasuredModel, paths: Sequence[Path], size: int | None,
              files: list[Path]) -> Iterator[Tensor]:
    """Inputs of the images that can be read; their paths are appended to ``files``."""
    for path in paths:
        try:
            image, _ = resized(model.cfg, read_image(path), size)
        except UnusableImage as error:
            print(f'skipped {error}', file=sys.stderr)
            continue
        files.append(path)
        yield network_input(model.cfg, image).to(model.device)


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


def _label(mask: LayerMask) -> str:
    parts = [p for p in mask.name.split('.') if p not in ('backbone', 'neck', 'module')]
    name = '.'.join(parts)
    if mask.kind == 'average':
        name = mask.name
    elif parts[0].startswith('layer') and len(parts) > 2:
        name = f'block {parts[1]}, {".".join(parts[2:])}'
    elif len(name) > 22:
        name = f'…{name[-21:]}'
    sigma = ', '.join(dict.fromkeys(f'{s:.2f}' if s < 100 else f'{s:.3g}' for s in mask.sigma))
    if mask.kind == 'dynamic':
        sigma += f' ({mask.images} images)' if mask.images else ' (blank image)'
    sizes = ('×'.join(dict.fromkeys(f'{n:.2f}' for n in extent))
             for extent in (mask.extent, mask.weighted_extent))
    return f'{name}\nσ {sigma}\nk {" → ".join(sizes)}'


def _draw_mask(axes: Axes, mask: LayerMask):
    image = axes.imshow(mask.mask.numpy(), **_COLOURS)
    heavy = dict(fontweight='bold') if mask.kind == 'average' else {}
    axes.set_title(_label(mask), fontsize=6.5, **heavy)
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
        count = min(EXAMPLES, max(1, len(sigmas) // 2))
        grid = part.add_gridspec(4, 2 + count, width_ratios=[3.2, 0.1] + [1] * count)
        axes = part.add_subplot(grid[:, 0])
        axes.scatter(*sigmas.T.numpy(), s=9, color='#0072B2', alpha=0.6)
        spread = [f'σ{axis} {mean:.3f} ± {std:.3f}' for axis, mean, std in zip(
            'xy', sigmas.mean(0), sigmas.std(0, correction=0))]
        axes.set_title(f'{name}: {len(sigmas)} images\n{", ".join(spread)} (mean ± std)', fontsize=8)
        axes.set(xlabel='σ along x (kernel cells)', ylabel='σ along y (kernel cells)')
        axes.ticklabel_format(useOffset=False)
        axes.tick_params(labelsize=7)
        axes.margins(0.1)
        order = sigmas.prod(1).argsort()
        for row, (end, chosen, colour) in enumerate((('smallest', order[:count], '#D55E00'),
                                                     ('largest', order[-count:], '#009E73'))):
            axes.scatter(*sigmas[chosen].T.numpy(), s=26, facecolors='none', edgecolors=colour,
                         label=f'{count} {end}')
            for column, index in enumerate(chosen.tolist()):
                above = part.add_subplot(grid[2 * row, 2 + column])
                above.imshow(read_image(files[index])[..., ::-1])
                above.set_title(f'{end} σ' if column == 0 else '', fontsize=8, loc='left')
                above.axis('off')
                below = part.add_subplot(grid[2 * row + 1, 2 + column])
                below.imshow(gaussian_mask(kernel_sizes[name], sigmas[index]).numpy(), **_COLOURS)
                below.set(xticks=[], yticks=[])
                below.set_xlabel('σ {:.3f}, {:.3f}'.format(*sigmas[index].tolist()), fontsize=7)
        axes.legend(fontsize=7)
    return figure
