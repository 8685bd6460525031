"""Reading checkpoint files safely, checking and fetching them. Needs torch alone."""
from .checkpoint_file import CheckpointError, UnreadableCheckpoint, read_checkpoint

__all__ = ['CheckpointError', 'UnreadableCheckpoint', 'read_checkpoint']
