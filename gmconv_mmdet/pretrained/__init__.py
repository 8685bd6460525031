"""Loading backbones from checkpoints of every layout, and publishing them. Needs torch alone."""
from .load import load_pretrained
from .load_report import LoadReport

__all__ = ['LoadReport', 'load_pretrained']
