from .checkpoint_file import CheckpointError, read_checkpoint
from .load_report import LoadReport
from .mmengine_loader import read_local_checkpoints_safely
from .pretrained import GMPretrainedInit, load_pretrained
from .safe_load import allow_mmengine_checkpoints

__all__ = [
    'CheckpointError', 'GMPretrainedInit', 'LoadReport', 'allow_mmengine_checkpoints',
    'load_pretrained', 'read_checkpoint', 'read_local_checkpoints_safely',
]
