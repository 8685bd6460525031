"""Puts layers, backbones, hooks and the rest into OpenMMLab's registries. Importing it does so."""
from __future__ import annotations

from mmengine.registry import MODELS

from .backbones import CifarResNet, GMBackbone, GMResNet, RefConvBackbone
from .evaluation import FastCocoMetric
from .hooks import DivergenceHook, ExactResumeHook, FoldGMConvHook, SafeCheckpointHook, SigmaLogHook
from .layers import GMConv2d, RefConv2d
from .openmmlab.initializer import GMPretrainedInit
from .openmmlab.mmengine_loader import register_loader
from .openmmlab.zoos import register_zoos

# In MMEngine's own registry, as mmcv's convolutions are: every scope finds them there.
MODELS.register_module('GMConv', module=GMConv2d)
MODELS.register_module('RefConv', module=RefConv2d)
register_zoos()
register_loader()

__all__ = ['CifarResNet', 'DivergenceHook', 'ExactResumeHook', 'FastCocoMetric', 'FoldGMConvHook',
           'GMBackbone', 'GMPretrainedInit', 'GMResNet', 'RefConvBackbone', 'SafeCheckpointHook',
           'SigmaLogHook']
