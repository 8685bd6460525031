"""GMConv for MMDetection: Gaussian Mask convolutions (arXiv 2302.04544) in mmdet's detectors.

Importing this package registers ``GMConv``, ``GMResNet``, ``GMBackbone``, ``CifarResNet``,
``GMPretrained`` and ``SigmaLogHook`` with MMEngine and lets MMEngine's own checkpoints pass torch's
safe unpickler. A config imports it with
``custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)``.
"""
from .backbones import GMBackbone, GMResNet
from .deploy import fold_gmconv
from .evaluation import FasterCocoMetric
from .hooks import FoldGMConvHook, SigmaLogHook
from .layers import GMConv2d, SigmaPredictor, gaussian_mask
from .version import __version__
from .weights import allow_mmengine_checkpoints, load_pretrained

allow_mmengine_checkpoints()

__all__ = [
    'FasterCocoMetric', 'FoldGMConvHook', 'GMBackbone', 'GMConv2d', 'GMResNet', 'SigmaLogHook',
    'SigmaPredictor', '__version__', 'fold_gmconv', 'gaussian_mask', 'load_pretrained',
]
