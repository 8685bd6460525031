"""The dynamic masks of a detector replaced by one mask each: an approximation, on request only."""
from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn as nn
from torch import Tensor

from ..conversion.fold import exchange, plain_conv
from ..layers import gaussian_mask
from ..layers.find_layers import dynamic_layers


@contextmanager
def watch_sigmas(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Collects what the dynamic layers predict in forward passes within the context: by name,
    ``(N, 1 or 2)`` each, as absolute values, since a mask knows no sign."""
    layers = dynamic_layers(model)
    seen: dict[str, list[Tensor]] = {name: [] for name in layers}
    handles = [
        layer.sigma_predictor.register_forward_hook(
            lambda module, inputs, sigma, found=seen[name]: found.append(
                sigma.detach().abs().cpu()))
        for name, layer in layers.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def average_masks(model: nn.Module, sigmas: Mapping[str, Tensor]) -> nn.Module:
    """A copy of ``model`` in which each dynamic layer is an ``nn.Conv2d`` with one mask for all
    images, whose ``sigmas`` are given by the layer's name: ``(1,)``, or ``(2,)`` along x and y."""
    model = copy.deepcopy(model)
    return exchange(model, {
        layer: plain_conv(layer, layer.weight * gaussian_mask(
            layer.kernel_size, sigmas[name].to(layer.weight.device)).to(layer.weight.dtype))
        for name, layer in dynamic_layers(model).items()})
