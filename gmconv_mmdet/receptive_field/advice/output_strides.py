"""Strides of anchors and RoI extractors that follow those of a changed backbone's maps.

Where all maps become finer alike, anchors (multiples of the strides) and the scale by which boxes are
assigned to levels shrink with them: the detector sees objects as it saw larger ones before. Where
only some maps do, anchors keep their sizes in pixels.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from ...openmmlab.config_file import config_scope, find_detector
from ...openmmlab.plain_backbone import type_name
from ..analyze import FieldSize
from ..fpn_assignment import FINEST_SCALE
from .config_changes import constructor_default


def changed_strides(cfg: Config, before: Sequence[FieldSize],
                    after: Sequence[FieldSize]) -> tuple[dict[str, Any], list[str]]:
    """The difference to a detector's config outside its backbone.

    Args:
        cfg: the config as it is.
        before: its maps that heads take, finest first.
        after: the same of the changed network.

    Returns:
        what to merge into the part of the config that holds ``backbone``, and what has to be set by
        hand: it takes strides in a form that isn't known here.
    """
    old, new = ([level.jump[0] for level in levels] for levels in (before, after))
    if old == new:
        return {}, []
    if len(old) != len(new) or len(set(old)) < len(old):
        return {}, ['the strides of anchors and RoI extractors']
    uneven = len({n / o for o, n in zip(old, new)}) > 1
    patch: dict[str, Any] = {}
    by_hand = []
    with config_scope(cfg):
        for keys, part in _parts(find_detector(cfg['model'])[1]):
            head = len(keys) == 1 and 'type' in part
            for name in ('strides', 'featmap_strides'):
                strides = part.get(name)
                if strides is None and name == 'strides' and head:
                    strides = constructor_default(part, name)  # heads without anchors
                if not isinstance(strides, (list, tuple)) or not strides:
                    continue
                values = _mapped(strides, dict(zip(old, new)))
                if values is None or any(isinstance(key, int) for key in keys):
                    by_hand.append('.'.join(map(str, (*keys, name))))
                    continue
                changed: dict[str, Any] = {name: values}
                finer = _number(values[0]) / _number(strides[0])
                if 'RoIExtractor' in type_name(part) and finer != 1:
                    scale = part.get('finest_scale', FINEST_SCALE) * finer
                    changed['finest_scale'] = int(scale) if scale == int(scale) else scale
                elif uneven and type_name(part) == 'AnchorGenerator' and not part.get('base_sizes'):
                    changed['base_sizes'] = [_number(s) for s in strides]
                place = patch
                for key in keys:
                    place = place.setdefault(key, {})
                place.update(changed)
            if 'regress_ranges' in part or head and constructor_default(part, 'regress_ranges'):
                by_hand.append('.'.join((*keys, 'regress_ranges')))
    return patch, by_hand


def _parts(node: Any, keys: tuple = ()) -> Iterator[tuple[tuple, Mapping[str, Any]]]:
    """Every dictionary of a detector but the backbone and the neck, with the way there."""
    if isinstance(node, Mapping):
        if keys:
            yield keys, node
        for name, child in node.items():
            if name not in ('backbone', 'neck'):
                yield from _parts(child, (*keys, name))
    elif isinstance(node, (list, tuple)):
        for i, child in enumerate(node):
            yield from _parts(child, (*keys, i))


def _mapped(strides: Sequence[Any], after: Mapping[Any, Any]) -> list[Any] | None:
    """Each stride's successor; None if one of them is that of no map."""
    if any(_number(stride) not in after for stride in strides):
        return None
    return [(after[_number(s)],) * 2 if isinstance(s, (list, tuple)) else after[s] for s in strides]


def _number(stride: Any) -> Any:
    return stride[0] if isinstance(stride, (list, tuple)) else stride
