"""What became of every tensor of a checkpoint and of a network."""
from __future__ import annotations

from dataclasses import dataclass, field

from ..messages import shortened


@dataclass
class LoadReport:
    """Accounts for every tensor.

    Each tensor of the network is in exactly one of ``loaded``, ``folded`` and ``initialized``; each
    one of the checkpoint in exactly one of ``loaded``, ``folded`` and ``ignored``.

    Attributes:
        source (str): the checkpoint.
        layout (str): where in it the backbone was found.
        loaded (list[str]): taken over, as they are or with the initial mask divided out.
        folded (list[str]): weights which a mask was multiplied into, and those masks.
        initialized (list[str]): not in the checkpoint, left to the network's own start.
        ignored (list[str]): in the checkpoint (under their names there), of no use to the network.
        approximated (list[str]): those of ``loaded`` and ``folded`` whose dynamic mask could not be
            kept: the network does not compute quite what the checkpoint did.
        reasons (dict[str, str]): name -> why, where there is more to say.
    """
    source: str
    layout: str
    loaded: list[str] = field(default_factory=list)
    folded: list[str] = field(default_factory=list)
    initialized: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    approximated: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def note(self, fate: str, name: str, reason: str = '') -> None:
        """Enter ``name`` in the list ``fate``."""
        getattr(self, fate).append(name)
        if reason:
            self.reasons[name] = reason

    def __str__(self) -> str:
        """The summary table: a row for each fate and reason."""
        rows = [('', 'tensors', 'reason', 'which')]
        for fate in ('loaded', 'folded', 'initialized', 'ignored'):
            by_reason: dict[str, list[str]] = {}
            for name in getattr(self, fate):
                by_reason.setdefault(self.reasons.get(name, ''), []).append(name)
            rows += [(fate, str(len(names)), reason or 'same name and shape', shortened(names))
                     for reason, names in by_reason.items()]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = ['  '.join((row[0].ljust(widths[0]), row[1].rjust(widths[1]),
                            row[2].ljust(widths[2]), row[3])).rstrip() for row in rows]
        return '\n'.join([f'{self.source} ({self.layout})', *lines])
