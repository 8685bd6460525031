"""Any registered backbone with a hyper-parameter of single layers changed.

Most backbones fix their stem in code: mmdet's ResNet always starts with a 7x7 convolution of stride
2 and a max pooling. ``EditedBackbone`` opens that to a config, for networks on images much smaller
than those a backbone was designed for (arXiv 2211.14487)::

    backbone=dict(
        type='EditedBackbone',
        edits=dict(conv1=dict(kernel_size=3, stride=1), maxpool=None),
        backbone=dict(type='ResNet', depth=18, ...))

The result is the backbone itself: its class, its module names and its checkpoint keys stay.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn as nn
from mmengine.registry import MODELS

from ..conversion.edit_layers import edit_layers


@MODELS.register_module('EditedBackbone')
def edited_backbone(backbone: dict, edits: Mapping[str, Mapping[str, Any] | None]) -> nn.Module:
    """Build ``backbone`` (config of a registered one) and change its layers.

    ``edits`` and errors are those of :func:`gmconv_mmdet.edit_layers`.
    """
    return edit_layers(MODELS.build(backbone), edits, inplace=True)
