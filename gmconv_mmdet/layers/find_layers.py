"""The layers of ours in a network, by name."""
from __future__ import annotations

import torch.nn as nn

from .gmconv import GMConv2d


def gm_layers(module: nn.Module) -> dict[str, GMConv2d]:
    """The layers of ``module`` that have a mask, by name: no 1x1 kernels, nothing folded."""
    return {name: layer for name, layer in module.named_modules()
            if isinstance(layer, GMConv2d) and layer.mask_parameters()}


def dynamic_layers(module: nn.Module) -> dict[str, GMConv2d]:
    """Those whose mask depends on the input, by name."""
    return {name: layer for name, layer in gm_layers(module).items() if layer.dynamic}
