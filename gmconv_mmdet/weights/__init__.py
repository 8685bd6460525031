from .checkpoint_file import CheckpointError, UnreadableCheckpoint, read_checkpoint
from .load_report import LoadReport
from .mmengine_loader import register_loader
from .pretrained import GMPretrainedInit, load_pretrained

__all__ = [
    'CheckpointError', 'GMPretrainedInit', 'LoadReport', 'UnreadableCheckpoint', 'load_pretrained',
    'read_checkpoint', 'register_loader',
]
