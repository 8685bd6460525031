"""What networks cost in time and memory, side by side in one process."""
from .compare import Row, compare

__all__ = ['Row', 'compare']
