from .gaussian_mask import gaussian_mask
from .gmconv import GMConv2d
from .refconv import GMRefConv2d, RefConv2d, RefocusedKernel, redrawing, refocus
from .sigma_predictor import SIGMA_PATTERNS, SigmaPredictor

__all__ = ['GMConv2d', 'GMRefConv2d', 'RefConv2d', 'RefocusedKernel', 'SIGMA_PATTERNS',
           'SigmaPredictor', 'gaussian_mask', 'redrawing', 'refocus']
