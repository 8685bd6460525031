"""Everything that is known of a model's masks, written to a folder: pictures and tables."""
from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from ..layers.find_layers import gm_layers
from .image_files import UnusableImage, network_input, read_image, resized
from .mask_picture import mask_figure, sigma_figure
from .masks import LayerMask, describe_masks, predicted_sigmas, stage_averages, write_csv
from .measured_model import MeasuredModel


def write_masks(model: MeasuredModel, out: Path, images: Sequence[Path] = (),
                size: int | None = None) -> list[LayerMask]:
    """Write ``masks.png`` and ``masks.csv``, and ``dynamic_sigmas.png`` and ``.csv`` where there
    are dynamic layers and images.

    Args:
        model: with at least one masked layer.
        out: folder, made where it does not exist; files of these names are replaced.
        images: for dynamic layers; one that can't be read is named and left out.
        size: fit images into ``size x size`` pixels instead of the config's test scale.

    Returns:
        the masks, layer by layer.

    Raises:
        ValueError: the model has no masked layer, or no image could be read.
    """
    layers = gm_layers(model.network)
    if not layers:
        raise ValueError(f'{model.label} has no GMConv layer with a mask, nothing to draw')
    predicted, files = {}, []
    if images and any(layer.dynamic for layer in layers.values()):
        device = next(model.network.parameters()).device
        inputs = _readable(model, tqdm(images, desc='images', unit='image'), size, files)
        predicted = predicted_sigmas(model.network, (image.to(device) for image in inputs))
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
        yield network_input(model.cfg, image)
