"""Which convolutions of a network become GMConv or RefConv, and folding them into plain ones.
Needs torch alone."""
from .fold import fold_gmconv

__all__ = ['fold_gmconv']
