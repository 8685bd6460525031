"""Loads a whole trained detector, for a training on other classes."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch.nn as nn

from ..checkpoints.checkpoint_file import CheckpointError, read_checkpoint
from ..checkpoints.fetch import local_file
from .layouts import find_backbone
from .load import load_content, refuse_meta
from .load_report import LoadReport

# Parts that keep what they compute, whatever is detected.
FEATURES = ('backbone', 'neck')


def load_detector(model: nn.Module, checkpoint: str | Path, preserve: bool = True, *,
                  prefix: str | None = None, allow: Sequence[str] = ()) -> LoadReport:
    """Load a detector's checkpoint, backbone and neck whole, heads as far as they fit.

    Backbone and neck are loaded as :func:`load_pretrained` does it: plain weights become a GMConv's
    that computes the same, and whatever is missing, superfluous or of another shape is an error. A
    tensor of the heads that is missing or has another shape, as for another number of classes,
    stays as ``model`` was initialised; ``initialized`` in the report names it.

    Args:
        model (nn.Module): with ``backbone`` and, maybe, ``neck``.
        checkpoint (str | Path): a path or link of a detector's checkpoint.
        preserve, prefix, allow: as of :func:`load_pretrained`; the heads are allowed anyway.

    Raises:
        CheckpointError: as of :func:`load_pretrained`; it is a bare backbone's.
        ValueError: the model is on ``meta``, without values.
        FileNotFoundError: there is no such file.
    """
    refuse_meta(model)
    content = read_checkpoint(local_file(checkpoint))
    try:
        found = find_backbone(content, model.state_dict(), prefix)
    except CheckpointError as error:
        raise CheckpointError(f'{checkpoint}: {error}. {type(model).__name__} is a whole detector and '
                              'needs a detector\'s checkpoint; a backbone\'s belongs in its own '
                              'init_cfg: model=dict(backbone=dict(init_cfg=dict('
                              'type=\'GMPretrained\', ...)))') from error
    heads = [name for name in {**found.tensors, **model.state_dict()}
             if name.split('.')[0] not in FEATURES]
    return load_content(model, content, str(checkpoint), preserve, prefix, [*heads, *allow])
