"""The masks in a network: what each GMConv has learned, and the average of each stage."""
from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from math import nan
from typing import TextIO

import torch
import torch.nn as nn
from torch import Tensor

from ..layers import gaussian_mask
from ..layers.find_layers import dynamic_layers, gm_layers
from ..layers.masked_kernel import masked_extent

COLUMNS = ('layer', 'stage', 'mask', 'kernel_h', 'kernel_w', 'sigma_x', 'sigma_y', 'images',
           'sigma_x_std', 'sigma_y_std', 'effective_h', 'effective_w', 'weighted_h', 'weighted_w')


@dataclass(frozen=True)
class LayerMask:
    """The mask of one layer, or the average mask of a stage.

    Attributes:
        name: of the layer; for an average ``'average of <stage>'``.
        stage: ``'stem'``, ``'L1'`` ..., ``'neck'``; see :func:`shown_stage`.
        kind: ``'static'``, ``'dynamic'`` or ``'average'``.
        sigma: ``(along x, along y)`` in kernel cells, without sign, which means nothing. Of a
            dynamic layer the mean over the images, or, without images, the prediction for a blank
            one. Of an average the mean over the layers.
        mask: ``(K_h, K_w)``, the largest entry 1; for a dynamic layer the one of ``sigma``.
        extent: effective kernel size ``(h, w)`` in kernel cells, of the mask: the size of the plain
            kernel with the same second moment, ``sqrt(12 variance + 1)``. ``K`` for a mask of ones,
            1 for a delta. See :func:`.masked_kernel.masked_extent`.
        weighted_extent: the same of ``mask * mean |weight|`` over all channel pairs.
        sigma_std: standard deviation of ``sigma`` over the images; None without images.
        images: number of images behind ``sigma``.
    """
    name: str
    stage: str
    kind: str
    sigma: tuple[float, float]
    mask: Tensor
    extent: tuple[float, float]
    weighted_extent: tuple[float, float]
    sigma_std: tuple[float, float] | None = None
    images: int = 0


def shown_stage(name: str) -> str:
    """The stage that a layer's name tells: ``'L1'`` (``'backbone.layer1.0.conv2'``), ``'stages 0'``,
    ``'features'``, ``'neck'``, a head's name; other layers of a backbone are in ``'stem'``."""
    if re.search(r'(^|\.)(necks?|\w+_head)(\.|$)', name):
        return 'neck' if 'neck' in name.split('.')[0] else name.split('.')[0]
    found = re.search(r'(?:^|\.)(layer|stages?)[._]?(\d+)', name)
    if found is None:
        return 'features' if re.search(r'(^|\.)features\.', name) else 'stem'
    return f'L{found[2]}' if found[1] == 'layer' else f'{found[1]} {found[2]}'


def both_axes(sigma: Tensor) -> Tensor:
    """Sigmas without sign as ``(..., 2)``: along x, along y; from ``(..., 1)`` or ``(..., 2)``."""
    return sigma.abs().expand(*sigma.shape[:-1], 2)


def extent(mask: Tensor) -> tuple[float, float]:
    """:func:`.masked_kernel.masked_extent`; not-a-number where a training has lost its sigma or all
    its weights, which must not end it."""
    if not bool(mask.isfinite().all()) or not bool(mask.any()):
        return nan, nan
    return masked_extent(mask)


class _AllPredicted(Exception):
    """Every dynamic layer has seen the image: the rest of the network need not run."""


@torch.no_grad()
def predicted_sigmas(network: nn.Module, images: Iterable[Tensor]) -> dict[str, Tensor]:
    """Sigmas that the dynamic layers predict, image by image.

    Args:
        network: takes one image batch.
        images: each ``(1, C, H, W)``, as the network wants them; sizes may differ.

    Returns:
        for each dynamic layer's name ``(images, 2)``, along x and along y, without sign.
    """
    dynamic = dynamic_layers(network)
    seen: dict[str, list[Tensor]] = {name: [] for name in dynamic}
    waiting: set[str] = set()

    def keep(name: str, output: Tensor) -> None:
        seen[name].append(both_axes(output).float().cpu())
        waiting.discard(name)
        if not waiting:
            raise _AllPredicted

    with ExitStack() as stack:
        for name, layer in dynamic.items():
            stack.callback(layer.sigma_predictor.register_forward_hook(
                lambda _module, _inputs, output, name=name: keep(name, output)).remove)
        for image in images if dynamic else ():
            waiting.update(dynamic)
            with suppress(_AllPredicted):
                network(image)
    return {name: torch.cat(rows) if rows else torch.empty(0, 2) for name, rows in seen.items()}


@torch.no_grad()
def describe_masks(module: nn.Module,
                   predicted: Mapping[str, Tensor] | None = None) -> list[LayerMask]:
    """What each masked layer has learned, in the order of the network.

    Args:
        module: any network with GMConv layers.
        predicted: from :func:`predicted_sigmas`; without it a dynamic layer is described by its
            prediction for a blank image, the predictor's bias.
    """
    described = []
    for name, layer in gm_layers(module).items():
        rows = (predicted or {}).get(name)
        spread = rows is not None and len(rows) > 0
        if spread:
            sigma = rows.double().mean(0)
        elif layer.dynamic:
            blank = layer.weight.new_zeros(1, layer.in_channels, 1, 1)
            sigma = both_axes(layer.sigma_predictor(blank))[0].double().cpu()
        else:
            sigma = both_axes(layer.sigma).double().cpu()
        mask = gaussian_mask(layer.kernel_size, sigma)
        weight = layer.weight.detach().double().abs().mean((0, 1)).cpu()
        described.append(LayerMask(
            name, shown_stage(name), 'dynamic' if layer.dynamic else 'static', tuple(sigma.tolist()),
            mask, extent(mask), extent(mask * weight),
            tuple(rows.double().std(0, correction=0).tolist()) if spread else None,
            len(rows) if spread else 0))
    return described


def stage_averages(masks: Iterable[LayerMask]) -> list[LayerMask]:
    """The average mask of each stage with several masks of one size (the paper's Fig. 7)."""
    groups: dict[tuple, list[LayerMask]] = {}
    for mask in masks:
        groups.setdefault((mask.stage, tuple(mask.mask.shape)), []).append(mask)
    averages = []
    for (stage, _), members in groups.items():
        if len(members) > 1:
            mean = torch.stack([m.mask for m in members]).mean(0)
            sigma, weighted = (tuple(torch.tensor(pairs, dtype=torch.double).mean(0).tolist()) for pairs in (
                [m.sigma for m in members], [m.weighted_extent for m in members]))
            averages.append(LayerMask(f'average of {stage}', stage, 'average', sigma, mean,
                                      extent(mean), weighted))
    return averages


def write_csv(masks: Iterable[LayerMask], file: TextIO) -> None:
    """One line a mask: sigmas and effective sizes in kernel cells."""
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for m in masks:
        numbers = (*m.sigma, m.images or '', *(m.sigma_std or ('', '')), *m.extent,
                   *m.weighted_extent)
        writer.writerow([m.name, m.stage, m.kind, *m.mask.shape,
                         *(f'{n:.5g}' if isinstance(n, float) else n for n in numbers)])
