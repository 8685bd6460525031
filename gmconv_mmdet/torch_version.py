"""What needs a newer torch than the one that is installed."""
from __future__ import annotations

import torch


class NewerTorchNeeded(RuntimeError):
    """A feature needs a newer torch; the message names both versions."""


def require_torch(feature: str, present: bool, since: str) -> None:
    """Raise :class:`NewerTorchNeeded` where this torch lacks what ``feature`` needs.

    Args:
        feature (str): begins the sentence, as the user knows it.
        present (bool): whether this torch has what is needed.
        since (str): the first torch that has.
    """
    if not present:
        raise NewerTorchNeeded(f'{feature} needs torch {since} or newer, this is torch '
                               f'{torch.__version__}')
