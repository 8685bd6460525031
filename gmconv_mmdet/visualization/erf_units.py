"""Effective receptive fields of chosen units: a network's central ones, averaged over images, and
those that see an object, by the object's size (the paper's Fig. 8, of which it says no more than "for
objects of varying sizes")."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor

from ..openmmlab.configured_size import preprocessor_config
from ..receptive_field.fpn_assignment import assign_levels, roi_assignment
from .coco_objects import CocoObject
from .erf import crop_around, mass_inside, second_moment_radius, unit_gradient
from .erf_result import Contribution, ErfResult, measure
from .image_files import UnusableImage, network_input, read_image, resized
from .measured_model import MeasuredModel, feature_maps, stride_of


def measure_network(model: MeasuredModel, images: Sequence[Path], folder: Path, path: Path,
                    outputs: Sequence[str] = ('C5',), size: int = 1024) -> ErfResult:
    """RepLKNet's measurement: the gradient map of the unit ``(h // 2, w // 2)`` of each output,
    averaged over images, all of them stretched to ``size x size`` pixels (bicubic).

    Args:
        images: files below ``folder``.
        folder: what their names in the result are relative to.
        path: ``.npz`` to save in and to go on from.
        outputs: names of :func:`~.measured_model.feature_maps`, keys of the result.

    Raises:
        ValueError: there is no such output, no image can be used, or ``path`` holds a measurement
            with other settings.
    """
    def contributions(file: Path) -> list[Contribution]:
        pixels = cv2.resize(read_image(file), (size, size), interpolation=cv2.INTER_CUBIC)
        image = network_input(model.cfg, pixels).to(model.device).requires_grad_()
        maps = feature_maps(model.network, image)
        unknown = [name for name in outputs if name not in maps]
        if unknown:
            raise ValueError(f'{model.label} has no output {", ".join(unknown)}; it has '
                             f'{", ".join(maps)}')
        found = []
        for name in outputs:
            height, width = maps[name].shape[2:]
            gradient = unit_gradient(maps[name], image, (height // 2, width // 2))
            if not np.isfinite(gradient).all():
                raise UnusableImage(f'{file}: the gradient of {name} is not finite')
            found.append(Contribution(name, gradient, {}))
        return found

    settings = dict(mode='network', label=model.label, weights=model.weights, key=model.key,
                    outputs=list(outputs), size=size, images=str(folder.resolve()))
    return measure(path, settings, {
        file.relative_to(folder).as_posix() if file != folder else file.name: file
        for file in images}, contributions)


def measure_objects(model: MeasuredModel, annotations: Path, folder: Path,
                    objects: Mapping[str, Sequence[CocoObject]], path: Path, crop: int = 513,
                    size: int | None = None) -> ErfResult:
    """For each object the fields of two units at its box's centre: on the backbone's last map
    (keys ``'C5/small'`` ...) and on the pyramid level of the box (``'P/small'`` ...).

    Each field is divided by its mass, so that every object counts the same, and cropped around the
    pixel at which the unit looks. Rows hold ``annotation``, ``level``, ``box`` (in pixels, relative
    to that pixel), ``inside`` (share of the mass in the box), ``in_crop`` (in the crop) and
    ``radius`` (second-moment radius about that pixel, beyond the crop too). A unit to which no
    pixel contributes is left out.

    Args:
        annotations: the file from which ``objects`` were drawn.
        folder: its images.
        objects: from :func:`~.coco_objects.draw_objects`.
        path: ``.npz`` to save in and to go on from.
        crop: side in pixels, odd.
        size: fit images into ``size x size`` pixels instead of the config's test scale.

    Raises:
        ValueError: ``crop`` is even, no image can be used, or ``path`` holds a measurement with
            other settings.
    """
    if crop < 3 or crop % 2 == 0:
        raise ValueError(f'crop must be odd and at least 3, so that it has a centre; got {crop}')

    def contributions(file: str) -> list[Contribution]:
        pixels, factor = resized(model.cfg, read_image(folder / file), size)
        image = _padded(model.cfg, network_input(model.cfg, pixels)).to(model.device).requires_grad_()
        maps = feature_maps(model.network, image)
        found = []
        for item in objects[file]:
            box = np.array(item.box) * np.tile(factor, 2)
            for kind, name in maps_of_box(model.cfg, maps, box[2:] - box[:2]).items():
                stride = stride_of(maps[name], image)
                unit = centre_unit(box, maps[name], stride)
                gradient = unit_gradient(maps[name], image, unit)
                total = gradient.sum()
                if not 0 < total < np.inf:
                    continue
                row, column = centre = unit[0] * stride, unit[1] * stride
                cropped = crop_around(gradient, centre, crop) / total
                found.append(Contribution(f'{kind}/{item.band}', cropped, dict(
                    annotation=item.annotation, level=name,
                    box=(box - (column, row, column, row)).round(2).tolist(),
                    inside=mass_inside(gradient, box), in_crop=float(cropped.sum()),
                    radius=second_moment_radius(gradient, centre))))
        return found

    ids = sorted(item.annotation for items in objects.values() for item in items)
    settings = dict(mode='objects', label=model.label, weights=model.weights, key=model.key,
                    annotations=str(annotations.resolve()), objects=ids, crop=crop, size=size)
    return measure(path, settings, {file: file for file in objects}, contributions)


def centre_unit(box: Sequence[float], feature: Tensor, stride: int) -> tuple[int, int]:
    """``(row, column)`` of the unit next to a box's centre; unit ``i`` is taken to look at pixel
    ``i * stride``, as in networks with odd kernels, padded by half (ResNets among them)."""
    row, column = (int(np.clip(round(((low + high) / 2 - 0.5) / stride), 0, length - 1))
                   for low, high, length in zip((box[1], box[0]), (box[3], box[2]), feature.shape[2:]))
    return row, column


def maps_of_box(cfg: Config, names: Iterable[str], size: tuple[float, float]) -> dict[str, str]:
    """The maps on which a box is measured: the key's part -> the map's name.

    Args:
        cfg: says how many levels its RoI extractor has, and its finest scale. Without such a head
            every level counts, a box of 56 pixels belonging to P2 as usual.
        names: of :func:`~.measured_model.feature_maps`.
        size: width and height of the box in pixels of the network's input.

    Returns:
        ``{'C5': 'C5', 'P': 'P3'}`` for a box of P3; without ``'P'`` where there is no pyramid.
    """
    names = list(names)
    last = [name for name in names if name.startswith('C')][-1]
    pyramid = [name for name in names if name.startswith('P')]
    if not pyramid:
        return {last: last}
    levels, finest_scale = roi_assignment(cfg)
    if levels is None:
        levels, finest_scale = len(pyramid), finest_scale * 2.**(int(pyramid[0][1:]) - 2)
    return {last: last, 'P': pyramid[assign_levels(np.array([size]), levels, finest_scale)[0]]}


def _padded(cfg: Config, image: Tensor) -> Tensor:
    divisor = preprocessor_config(cfg).get('pad_size_divisor') or 1
    height, width = image.shape[2:]
    return F.pad(image, (0, -width % divisor, 0, -height % divisor))
