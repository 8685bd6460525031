"""Small trained networks and images for tests of several folders."""
from __future__ import annotations

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from gmconv_mmdet import GMConv2d


def trained(model, seed=0):
    """Sigmas, norms and predictors as training would leave them, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor, low, high):
        tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    for module in model.modules():
        if isinstance(module, GMConv2d) and module.dynamic:
            uniform(module.sigma_predictor.w1, -1, 1)
            uniform(module.sigma_predictor.b1, 0.8, 2.5)
        elif isinstance(module, GMConv2d) and module.sigma is not None:
            uniform(module.sigma, 0.4, 3)
        elif isinstance(module, nn.BatchNorm2d):
            uniform(module.running_mean, -0.2, 0.2)
            uniform(module.running_var, 0.5, 2)
            uniform(module.weight, 0.5, 1.5)
            uniform(module.bias, -0.2, 0.2)
    return model.train(False)


def images(batch=2, height=64, width=48):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def difference(outputs, expected):
    """Largest difference, relative to the largest value of each output."""
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(outputs, expected))


def skip_without_autocast(dtype):
    """torch before 2.1 has no fp16 on a CPU, in autocast and in convolutions."""
    try:
        with torch.autocast('cpu', dtype=dtype):
            F.conv2d(torch.ones(1, 1, 3, 3, dtype=dtype), torch.ones(1, 1, 3, 3, dtype=dtype))
    except RuntimeError as error:
        pytest.skip(f'torch {torch.__version__}: {error}'.splitlines()[0])


def on_one_process(model_cfg: dict) -> dict:
    """SyncBN as MMEngine's runner makes it on one process; changes the config and returns it."""
    for key, value in model_cfg.items():
        if isinstance(value, dict):
            on_one_process(value)
        elif value == 'SyncBN':
            model_cfg[key] = 'BN'
    return model_cfg
