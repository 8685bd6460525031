"""Lists and tables in messages and reports."""
from __future__ import annotations

from collections.abc import Iterable, Sequence


def shortened(names: list[str], most: int = 3) -> str:
    """The first few of ``names`` and how many more there are."""
    more = len(names) - most
    return ', '.join(names[:most]) + (f' and {more} more' if more > 0 else '')


def markdown_table(header: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    return [f'| {" | ".join(cells)} |' for cells in (header, ['---'] * len(header), *body)]
