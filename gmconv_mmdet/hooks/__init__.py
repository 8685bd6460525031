"""Hooks of a training: safe checkpoints, exact resume, logs of masks, divergence, folding."""
from .divergence import DivergenceError, DivergenceHook
from .exact_resume import ExactResumeHook
from .folded_validation import FoldGMConvHook
from .safe_checkpoint import SafeCheckpointHook, SafeCheckpoints
from .sigma_log import SigmaLogHook

__all__ = ['DivergenceError', 'DivergenceHook', 'ExactResumeHook', 'FoldGMConvHook',
           'SafeCheckpointHook', 'SafeCheckpoints', 'SigmaLogHook']
