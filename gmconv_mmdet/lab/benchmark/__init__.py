"""What networks cost in time and memory, side by side in one process."""
from .compare import Timing, compare

__all__ = ['Timing', 'compare']
