"""GMConv and RefConv as layers, and the mathematics in functions. Needs torch alone."""
from .gaussian_mask import gaussian_mask
from .gmconv import GMConv2d
from .refconv import RefConv2d, refocus
from .sigma_predictor import SIGMA_PATTERNS, SigmaPredictor

__all__ = ['GMConv2d', 'RefConv2d', 'SIGMA_PATTERNS', 'SigmaPredictor', 'gaussian_mask',
           'refocus']
