"""A clear error for an argument that there is not."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

# Of GMResNet and GMBackbone, which placed RefConv, too, up to version 0.1.
NO_KIND = ('all layers are GMConv, leave it out. RefConv is placed by backbone=dict('
           'type=\'RefConvBackbone\', backbone=dict(type=\'ResNet\', ...), stem=True, '
           'body=[\'layer1\', ...])')


def refuse_unknown(owner: str, given: Iterable[str], known: Iterable[str],
                   instead: Mapping[str, str] | None = None, otherwise: str = '') -> None:
    """Raise a ``TypeError``, as Python does, for the first of the names ``given`` that is not
    ``known``. It says what to write: what ``instead`` has for that name, or the closest known name,
    or ``otherwise`` and all known names."""
    known = list(known)
    for name in given:
        if name in known:
            continue
        closest = get_close_matches(name, known, n=1)
        advice = (instead or {}).get(name) or (
            f'write {closest[0]}' if closest else
            otherwise + f'Its arguments are {", ".join(known)}')
        raise TypeError(f'{owner} has no argument {name!r}: {advice}')
