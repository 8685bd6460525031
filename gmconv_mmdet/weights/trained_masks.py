"""Which masks an ``init_cfg`` will bring already trained, found out before anything is loaded.

A network has to know when it is built: DistributedDataParallel wraps it before its weights are
initialised and fixes then which parameters get gradients.
"""
from __future__ import annotations

from collections.abc import Collection

from mmengine.model.weight_init import PretrainedInit

from ..layers import GMConv2d
from .checkpoint_file import read_checkpoint
from .fetch import PLAIN_ZOOS, cache_path
from .layouts import find_backbone
from .mask_moves import is_initial, masks_in, move_mask
from .pretrained import GMPretrainedInit, sigma_pattern_of


def is_gm_pretrained(cfg: dict) -> bool:
    """Whether an entry of an ``init_cfg`` is our initialiser."""
    return cfg['type'] in ('GMPretrained', GMPretrainedInit)


def _pretrained_entry(init_cfg: dict | list | None) -> dict | None:
    entries = [init_cfg] if isinstance(init_cfg, dict) else list(init_cfg or [])
    last = [cfg for cfg in entries
            if is_gm_pretrained(cfg) or cfg['type'] in ('Pretrained', PretrainedInit)]
    return last[-1] if last else None


def trained_masks(init_cfg: dict | list | None, layers: dict[str, GMConv2d],
                  expected: Collection[str], distributed: bool) -> set[str] | None:
    """Names of those of ``layers`` whose masks come trained from the checkpoint in ``init_cfg``.

    Never downloads and never fails: a checkpoint which isn't there or can't be read is for
    ``init_weights`` to complain of, and inference needs none.

    Args:
        init_cfg (dict | list, optional): of the network.
        layers (dict[str, GMConv2d]): the masked layers in question.
        expected (Collection[str]): keys of the network's ``state_dict()``.
        distributed (bool): whether several processes run. A download is then not looked at, since
            it may be there for one machine and not for another.

    Returns:
        set[str] | None: ``None`` where it can't be known yet. A mask which in the checkpoint is
        still that of ``init_sigma`` is not trained.
    """
    entry = _pretrained_entry(init_cfg)
    if entry is None or str(entry.get('checkpoint')).startswith(PLAIN_ZOOS):
        return set()
    checkpoint = str(entry.get('checkpoint'))
    if checkpoint.startswith(('http://', 'https://')):
        if distributed:
            return None
        checkpoint = cache_path(checkpoint)
    try:
        content = read_checkpoint(checkpoint)
        ours = is_gm_pretrained(entry)
        # MMEngine's `Pretrained` searches no prefix and moves no mask to another kind of layer.
        found = find_backbone(content, expected, entry.get('prefix', None if ours else ''))
        masks = masks_in(found.tensors, sigma_pattern_of(content))
        return {name for name, layer in layers.items()
                if name in masks and (ours or (masks[name].kind == 'dynamic') == layer.dynamic)
                and not is_initial(layer, move_mask(found.tensors[f'{name}.weight'], masks[name],
                                                    layer, name).mask)}
    except (OSError, ValueError, KeyError, ImportError):
        return None
