from .fold import fold_gmconv

__all__ = ['fold_gmconv']
