"""GMConv for MMDetection: Gaussian Mask convolutions (arXiv 2302.04544) in mmdet's detectors.

Importing this package registers ``GMConv``, ``GMResNet``, ``GMPretrained`` and ``SigmaLogHook`` with
MMEngine and lets MMEngine's own checkpoints pass torch's safe unpickler. A config imports it with
``custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)``.
"""
from .backbones import GMResNet
from .evaluation import FasterCocoMetric
from .hooks import SigmaLogHook
from .layers import GMConv2d, SigmaPredictor, gaussian_mask
from .version import __version__
from .weights import allow_mmengine_checkpoints, load_pretrained

allow_mmengine_checkpoints()

__all__ = [
    'FasterCocoMetric', 'GMConv2d', 'GMResNet', 'SigmaLogHook', 'SigmaPredictor', '__version__', 'gaussian_mask',
    'load_pretrained'
]
