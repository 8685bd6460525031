from .checkpoint_file import CheckpointError, read_checkpoint
from .load_report import LoadReport
from .pretrained import GMPretrainedInit, load_pretrained
from .safe_load import allow_mmengine_checkpoints

__all__ = [
    'CheckpointError', 'GMPretrainedInit', 'LoadReport', 'allow_mmengine_checkpoints',
    'load_pretrained', 'read_checkpoint'
]
