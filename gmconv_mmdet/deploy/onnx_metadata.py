"""What an ONNX file of a detector's features has to say beside its graph."""
from __future__ import annotations

import json
import math
from collections.abc import Mapping

import torch
import torch.nn as nn
from mmengine.config import Config

from ..version import __version__


def level_names(network: nn.Module, size: tuple[int, int], letter: str) -> list[str]:
    """Names of the feature maps by their strides: ``P2`` has stride 4, ``P3`` stride 8.

    Args:
        network (nn.Module): takes images ``(N, 3, H, W)``, gives one map or several.
        size (tuple[int, int]): ``(H, W)`` to find the strides with.
        letter (str): ``'P'`` of a pyramid, ``'C'`` of a backbone.

    Returns:
        list[str]: one for each map; of maps with the same stride the second is ``P2_2``.
    """
    with torch.no_grad():
        maps = network(torch.zeros(1, 3, *size))
    names: list[str] = []
    for features in (maps, ) if isinstance(maps, torch.Tensor) else maps:
        name = f'{letter}{round(math.log2(size[0] / features.shape[-2]))}'
        same = sum(other.partition('_')[0] == name for other in names)
        names.append(f'{name}_{same + 1}' if same else name)
    return names


def image_metadata(cfg: Config, checkpoint_meta: Mapping) -> dict[str, str]:
    """How images get their numbers, and the classes, as JSON texts by name.

    Args:
        cfg (Config): of the detector.
        checkpoint_meta (Mapping): its checkpoint's ``meta``.

    Returns:
        dict[str, str]: ``mean`` and ``std`` by channel (subtracted, then divided by),
        ``channel_order`` (``"RGB"`` or ``"BGR"``), ``pad_size_divisor`` and ``pad_value`` (right and
        bottom), ``classes`` where the checkpoint or the config knows them, ``gmconv_mmdet``.
    """
    found = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    mean, std = found.get('mean') or [0.0] * 3, found.get('std') or [1.0] * 3
    metadata = dict(mean=list(mean), std=list(std),
                    channel_order='RGB' if found.get('bgr_to_rgb') else 'BGR',
                    pad_size_divisor=found.get('pad_size_divisor', 1),
                    pad_value=found.get('pad_value', 0), gmconv_mmdet=__version__)
    known = {key.lower(): value for source in (cfg.get('metainfo'), checkpoint_meta.get('dataset_meta'))
             for key, value in (source or {}).items()}
    if known.get('classes'):
        classes = known['classes']
        metadata['classes'] = [classes] if isinstance(classes, str) else list(classes)
    return {name: json.dumps(value, ensure_ascii=False) for name, value in metadata.items()}
