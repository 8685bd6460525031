"""The weights that an ``init_cfg`` names for the start of a training."""
from __future__ import annotations

from collections.abc import Iterator

import torch.nn as nn


def _kind(cfg: dict) -> str:
    return cfg['type'] if isinstance(cfg['type'], str) else cfg['type'].__name__


def is_gm_pretrained(cfg: dict) -> bool:
    """Whether an entry of an ``init_cfg`` is our initialiser."""
    return _kind(cfg) in ('GMPretrained', 'GMPretrainedInit')


def _is_pretrained(cfg: dict) -> bool:
    return is_gm_pretrained(cfg) or _kind(cfg) in ('Pretrained', 'PretrainedInit')


def _entries(module: nn.Module) -> list[dict]:
    init_cfg = getattr(module, 'init_cfg', None)
    return [init_cfg] if isinstance(init_cfg, dict) else list(init_cfg or [])


def start_weights(model: nn.Module) -> Iterator[tuple[str, nn.Module, dict]]:
    """Every entry of an ``init_cfg`` that loads a checkpoint: name of the module, module, entry."""
    for name, module in model.named_modules():
        yield from ((name, module, cfg) for cfg in _entries(module) if _is_pretrained(cfg))


def names_start_weights(model: nn.Module) -> bool:
    """Whether the ``init_cfg`` of ``model`` or of a part of it loads a checkpoint."""
    return any(True for _ in start_weights(model))


def leave_out_start_weights(model: nn.Module) -> None:
    """Take the checkpoints out of all ``init_cfg`` of ``model``, before ``init_weights``: where a
    checkpoint of the whole replaces them (a resumed run's, a detector's), so that their files need
    not be there. The modules concerned get the attribute ``start_weights_left_out = True``."""
    for module in model.modules():
        entries = _entries(module)
        others = [cfg for cfg in entries if not _is_pretrained(cfg)]
        if len(others) < len(entries):
            module.init_cfg = others
            module.start_weights_left_out = True
