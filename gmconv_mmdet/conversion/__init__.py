"""Which convolutions of a network become GMConv or RefConv, and folding them into plain ones.
Needs torch alone."""
from .convert import ConversionReport, conversion_report, convert_gmconv
from .edit_layers import edit_layers
from .fold import fold_gmconv

__all__ = ['ConversionReport', 'conversion_report', 'convert_gmconv', 'edit_layers',
           'fold_gmconv']
