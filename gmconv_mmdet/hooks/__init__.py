from .exact_resume import ExactResumeHook
from .fold import FoldGMConvHook
from .safe_checkpoint import SafeCheckpointHook
from .sigma_log import SigmaLogHook

__all__ = ['ExactResumeHook', 'FoldGMConvHook', 'SafeCheckpointHook', 'SigmaLogHook']
