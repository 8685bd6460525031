"""GMConv and RefConv for MMDetection: Gaussian Mask convolutions (arXiv 2302.04544) and refocusing
convolutions (arXiv 2310.10563) in mmdet's detectors.

Importing this package registers ``GMConv``, ``RefConv``, ``GMRefConv``, ``GMResNet``,
``GMBackbone``, ``CifarResNet``, ``GMPretrained`` and ``SigmaLogHook`` with MMEngine and lets
MMEngine load its own training checkpoints where torch is 2.6 or newer (docs/import.md). A config
imports it with ``custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)``.
"""
import sys

from .version import __version__

try:
    from .backbones import GMBackbone, GMResNet
    from .deploy import fold_gmconv
    from .evaluation import FastCocoMetric
    from .hooks import FoldGMConvHook, SigmaLogHook
    from .layers import GMConv2d, GMRefConv2d, RefConv2d, SigmaPredictor, gaussian_mask, refocus
    from .weights import load_pretrained, register_loader
    register_loader()
except Exception:
    # `python -m gmconv_mmdet.doctor` has to run where the package can't be imported, and says why.
    if sys.argv[:1] != ['-m']:
        raise

__all__ = [
    'FastCocoMetric', 'FoldGMConvHook', 'GMBackbone', 'GMConv2d', 'GMRefConv2d', 'GMResNet',
    'RefConv2d', 'SigmaLogHook', 'SigmaPredictor', '__version__', 'fold_gmconv', 'gaussian_mask',
    'load_pretrained', 'refocus',
]
