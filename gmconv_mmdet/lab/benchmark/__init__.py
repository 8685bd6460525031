"""What networks cost in time and memory, side by side in one process."""
