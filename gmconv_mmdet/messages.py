"""Lists in error messages and reports."""
from __future__ import annotations


def shortened(names: list[str], most: int = 3) -> str:
    """The first few of ``names`` and how many more there are."""
    more = len(names) - most
    return ', '.join(names[:most]) + (f' and {more} more' if more > 0 else '')
