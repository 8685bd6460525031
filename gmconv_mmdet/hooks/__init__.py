from .sigma_log import SigmaLogHook

__all__ = ['SigmaLogHook']
