"""mmcv's compiled operators on a device against the same on the CPU."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def check_ops(device: torch.device | str) -> dict[str, Any]:
    """Run ``nms``, ``roi_align`` and ``deform_conv2d``, the last two backward too.

    Returns:
        dict: for each operator ``agrees``, the largest ``difference`` to the CPU's, or ``error``.
    """
    results = {}
    for name, call in (('nms', _nms), ('roi_align', _roi_align), ('deform_conv2d', _deform_conv)):
        try:
            expected, found = call('cpu'), [tensor.cpu() for tensor in call(device)]
            difference = max(float((a.double() - b.double()).abs().max())
                             if a.shape == b.shape else float('inf')
                             for a, b in zip(expected, found))
            # Results are of the order of 1 to 10; TF32 has ten bits.
            results[name] = dict(agrees=difference < 0.05, difference=difference)
        except Exception as error:  # a wheel for another GPU raises all kinds
            results[name] = dict(agrees=False, error=f'{type(error).__name__}: {error}'[:300])
    return results


def _random(*shape: int, seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def _boxes(count: int) -> Tensor:
    corners = 40 * _random(count, 2, seed=1)
    return torch.cat([corners, corners + 4 + 20 * _random(count, 2, seed=2)], dim=1)


def _nms(device: torch.device | str) -> list[Tensor]:
    from mmcv.ops import nms
    boxes, kept = nms(_boxes(300).to(device), _random(300, seed=3).to(device), 0.5)
    return [boxes, kept]


def _roi_align(device: torch.device | str) -> list[Tensor]:
    from mmcv.ops import roi_align
    image = _random(2, 3, 48, 48, seed=4).to(device).requires_grad_()
    rois = torch.cat([torch.arange(20).remainder(2)[:, None], _boxes(20)], dim=1).to(device)
    out = roi_align(image, rois, (7, 7), 0.5, 2, 'avg', True)
    out.square().sum().backward()
    return [out.detach(), image.grad]


def _deform_conv(device: torch.device | str) -> list[Tensor]:
    from mmcv.ops import deform_conv2d
    inputs = [_random(2, 8, 12, 12, seed=5), _random(2, 18, 12, 12, seed=6) - 0.5,
              _random(4, 8, 3, 3, seed=7) - 0.5]
    image, offset, weight = (tensor.to(device).requires_grad_() for tensor in inputs)
    out = deform_conv2d(image, offset, weight, 1, 1)
    out.mean().backward()
    return [out.detach(), image.grad, weight.grad]
