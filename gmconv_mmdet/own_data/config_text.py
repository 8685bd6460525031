"""Values and comments as the text of a config."""
from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

WIDTH = 100


class Expression(str):
    """Text that stands in a config as it is: a name, a comprehension."""


def literal(value: Any, column: int = 0) -> str:
    """A value as Python source, broken into lines where it does not fit.

    Args:
        value: mappings with text as keys become ``dict(...)``.
        column: where it starts, spaces of continued lines included.
    """
    if isinstance(value, Expression):
        return str(value).replace('\n', '\n' + ' ' * column)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) and key.isidentifier() for key in value):
            start, items = '{', [(f'{key!r}: ', item) for key, item in value.items()]
        else:
            start, items = 'dict(', [(f'{key}=', item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        start, items = '(' if isinstance(value, tuple) else '[', [('', item) for item in value]
    else:
        return repr(value)
    end = {'{': '}', 'dict(': ')', '[': ']', '(': ')'}[start]
    comma = ',' if isinstance(value, tuple) and len(value) == 1 else ''
    flat = start + ', '.join(name + literal(item) for name, item in items) + comma + end
    if column + len(flat) <= WIDTH - 4 and '\n' not in flat:
        return flat
    inner = column + 4
    if not isinstance(value, Mapping) and all(isinstance(item, (str, int, float))
                                              for _, item in items):
        lines = ['']
        for _, item in items:  # as many in a line as fit
            if inner + len(lines[-1]) + len(repr(item)) > WIDTH - 4:
                lines.append('')
            lines[-1] += f'{repr(item)}, '
        return '\n'.join([start, *(' ' * inner + line.rstrip() for line in lines),
                          ' ' * column + end])
    lines = [f'{" " * inner}{name}{literal(item, inner)},' for name, item in items]
    return '\n'.join([start, *lines, ' ' * column + end])


def assignment(name: str, value: Any) -> str:
    """``name = value``."""
    return f'{name} = {literal(value)}'


def comment(text: str) -> str:
    """Lines that start with ``#``."""
    return '\n'.join(f'# {line}' for line in textwrap.wrap(
        text, WIDTH - 2, break_long_words=False, break_on_hyphens=False))
