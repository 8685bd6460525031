"""Convolutions that learn the size of their receptive field: GMConv (Gaussian Mask convolution,
arXiv 2302.04544) and RefConv (refocusing convolution, arXiv 2310.10563).

With torch alone: the layers, conversion and folding of any network, loading of pretrained weights.
Where mmengine, mmcv and mmdet are installed, importing this package also registers ``GMConv``,
``RefConv``, ``GMResNet``, ``GMBackbone``, ``RefConvBackbone``, ``CifarResNet``, ``GMPretrained`` and
our hooks, and lets MMEngine load its own training checkpoints where torch is 2.6 or newer
(docs/import.md). A config imports it with
``custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)``.
"""
import importlib
import importlib.util
import sys

from .version import __version__

# What needs mmengine, mmcv and mmdet.
_OPENMMLAB = ('FastCocoMetric', 'FoldGMConvHook', 'GMBackbone', 'GMResNet', 'RefConvBackbone',
              'SigmaLogHook')
# Loaded when first asked for: name -> module and name there.
_LAZY = {'advise_receptive_field': ('receptive_field.advice.advise', 'advise'),
         'analyze_receptive_field': ('receptive_field.analyze', 'analyze'),
         'area_ratio': ('visualization.erf', 'area_ratio')}
_MISSING = [name for name in ('mmengine', 'mmcv', 'mmdet') if not importlib.util.find_spec(name)]


def __getattr__(name: str):
    if name in _LAZY:
        module, attribute = _LAZY[name]
        try:
            return getattr(importlib.import_module(f'.{module}', __name__), attribute)
        except ModuleNotFoundError as error:
            raise ImportError(f'gmconv_mmdet.{name} needs the package {error.name}, which is not '
                              'installed') from error
    if name in _OPENMMLAB and _MISSING:
        raise ImportError(f'gmconv_mmdet.{name} works inside MMDetection, and '
                          f'{", ".join(_MISSING)} is not installed. `python -m gmconv_mmdet.doctor` '
                          'lists the versions that work together')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


# `python -m gmconv_mmdet.doctor` has to run where nothing of this can be imported, and says why.
if sys.argv[:1] != ['-m']:
    from .conversion import conversion_report, convert_gmconv, edit_layers, fold_gmconv
    from .layers import GMConv2d, RefConv2d, SigmaPredictor, gaussian_mask, refocus
    from .pretrained import load_pretrained
    if not _MISSING:
        try:
            from .register import (
                FastCocoMetric,
                FoldGMConvHook,
                GMBackbone,
                GMResNet,
                RefConvBackbone,
                SigmaLogHook,
            )
        except Exception as error:
            from .doctor import explain
            explained = explain()
            if not explained:
                raise
            raise ImportError(f'{explained}\nThe import ended with {type(error).__name__}: '
                              f'{error}') from None

__all__ = [
    'FastCocoMetric', 'FoldGMConvHook', 'GMBackbone', 'GMConv2d', 'GMResNet', 'RefConv2d',
    'RefConvBackbone', 'SigmaLogHook', 'SigmaPredictor', '__version__',
    'advise_receptive_field', 'analyze_receptive_field', 'area_ratio', 'conversion_report',
    'convert_gmconv', 'edit_layers',
    'fold_gmconv', 'gaussian_mask', 'load_pretrained', 'refocus',
]
if _MISSING:
    __all__ = [name for name in __all__ if name not in _OPENMMLAB]
if not importlib.util.find_spec('numpy'):
    __all__.remove('area_ratio')
