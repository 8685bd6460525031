"""The weights that an ``init_cfg`` names for the start of a training."""
from __future__ import annotations

from collections.abc import Iterator

import torch.nn as nn
from mmengine.model.weight_init import PretrainedInit

from .initializer import GMPretrainedInit


def is_gm_pretrained(cfg: dict) -> bool:
    """Whether an entry of an ``init_cfg`` is our initialiser."""
    return cfg['type'] in ('GMPretrained', GMPretrainedInit)


def _is_pretrained(cfg: dict) -> bool:
    return is_gm_pretrained(cfg) or cfg['type'] in ('Pretrained', PretrainedInit)


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
    """Take the checkpoints out of all ``init_cfg`` of ``model``, before ``init_weights``: for a run
    that resumes, whose own checkpoint replaces them, so that their files need not be there any
    more. The modules concerned get the attribute ``start_weights_left_out = True``."""
    for module in model.modules():
        entries = _entries(module)
        others = [cfg for cfg in entries if not _is_pretrained(cfg)]
        if len(others) < len(entries):
            module.init_cfg = others
            module.start_weights_left_out = True
