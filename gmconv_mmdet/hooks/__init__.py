from .fold import FoldGMConvHook
from .sigma_log import SigmaLogHook

__all__ = ['FoldGMConvHook', 'SigmaLogHook']
