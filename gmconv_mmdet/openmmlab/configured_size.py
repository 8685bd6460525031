"""The size at which images reach a configured network."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from .config_file import find_detector


def configured_scale(cfg: Config) -> tuple[tuple[int, int], bool] | None:
    """The size at which images reach the network: ``((W, H), keep_ratio)``, or None.

    It is the last resize or crop of the test pipeline, else the last crop of the training pipeline
    (CIFAR's images have their size, CornerNet tests at the images' own). As in MMDetection's
    ``Resize``: with ``keep_ratio`` the image fits into the scale, whichever way it is turned.
    """
    found = [_scale(step) for step in _steps(_pipeline(cfg, 'test'))]
    found += [_scale(step) for step in _steps(_pipeline(cfg, 'train'))
              if 'Crop' in str(step.get('type'))] if not any(found) else []
    found = [scale for scale in found if scale is not None]
    return found[-1] if found else None


def _scale(step: Mapping) -> tuple[tuple[int, int], bool] | None:
    kind = str(step.get('type', '')).rpartition('.')[2]
    scale = step.get('crop_size') if 'Crop' in kind else \
        step.get('scale') or step.get('img_scale') if 'Resize' in kind else None
    if scale is None:
        return None
    if isinstance(scale, (list, tuple)) and isinstance(scale[0], (list, tuple)):
        scale = scale[-1]   # several scales: the last is the largest
    width, height = (scale, scale) if isinstance(scale, int) else scale
    return (width, height), bool(step.get('keep_ratio', False))


def configured_size(cfg: Config) -> tuple[int, int] | None:
    """The input size ``(H, W)`` that a config implies: the test scale, padded as the data
    preprocessor pads; None where the config names no scale."""
    found = configured_scale(cfg)
    if found is None:
        return None
    (width, height), _ = found
    divisor = preprocessor_config(cfg).get('pad_size_divisor') or 1
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def preprocessor_config(cfg: Config) -> Mapping:
    for place in (cfg['model'], find_detector(cfg['model'])[1], cfg):
        found = place.get('data_preprocessor')
        while isinstance(found, Mapping) and 'data_preprocessor' in found:   # several branches
            found = found['data_preprocessor']
        if isinstance(found, Mapping):
            return found
    return {}


def _pipeline(cfg: Config, phase: str) -> list[Mapping]:
    dataset: Any = (cfg.get(f'{phase}_dataloader') or {}).get('dataset', {})
    while isinstance(dataset, Mapping) and 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    return (dataset.get('pipeline') if isinstance(dataset, Mapping) else None) or \
        cfg.get(f'{phase}_pipeline') or []


def _steps(pipeline: Any) -> list[Mapping]:
    """All transforms, those nested in others (test-time augmentation) included."""
    steps: list[Mapping] = []
    for item in pipeline if isinstance(pipeline, (list, tuple)) else []:
        if isinstance(item, Mapping):
            steps += [item] + _steps(item.get('transforms'))
        else:
            steps += _steps(item)
    return steps
