"""Effective receptive field of a network's central units, averaged over images."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from .erf import unit_gradient
from .erf_result import Contribution, ErfResult, measure, open_result
from .image_files import UnusableImage, network_input, read_image
from .measured_model import MeasuredModel, feature_maps


def measure_network(model: MeasuredModel, images: Sequence[Path], folder: Path, path: Path,
                    outputs: Sequence[str] = ('C5',), size: int = 1024) -> ErfResult:
    """RepLKNet's measurement: the gradient map of the unit ``(h // 2, w // 2)`` of each output,
    averaged over images, all of them stretched to ``size x size`` pixels (bicubic).

    Args:
        model: the network.
        images: files below ``folder``.
        folder: what their names in the result are relative to.
        path: ``.npz`` to save in and to go on from.
        outputs: names of :func:`~.measured_model.feature_maps`, keys of the result.
        size: in pixels.

    Raises:
        ValueError: there is no such output, no image can be used, or ``path`` holds a measurement
            with other settings.
    """
    device = next(model.network.parameters()).device
    settings = dict(mode='network', label=model.label, weights=model.weights, key=model.key,
                    outputs=list(outputs), size=size, images=str(folder.resolve()))

    def contributions(file: Path) -> list[Contribution]:
        pixels = cv2.resize(read_image(file), (size, size), interpolation=cv2.INTER_CUBIC)
        image = network_input(model.cfg, pixels).to(device).requires_grad_()
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

    names = [(file.relative_to(folder).as_posix() if file != folder else file.name, file)
             for file in images]
    return measure(open_result(path, settings), path, names, contributions)
