"""Changes of one hyper-parameter that let the receptive field of any network grow more slowly.

The advice of arXiv 2211.14487: where a network's smallest useful input lies above the images that it
gets, make the stem smaller or leave out a downsampling.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, List, Mapping, Tuple

from ..analyze import LayerField, Report

Edits = Mapping[str, Any]  # as of gmconv_mmdet.edit_layers
Layers = List[Tuple[str, LayerField]]  # with a kernel, in the order in which they run


@dataclass(frozen=True)
class Change:
    """One change of a network.

    Attributes:
        name: short, as ``--change`` takes it.
        description: what is changed.
        edits: for :func:`gmconv_mmdet.edit_layers`.
        note: what follows from it for training.
        backbone: the changed config, where the network came from one.
    """
    name: str
    description: str
    edits: Edits = field(default_factory=dict)
    note: str = ''
    backbone: Mapping[str, Any] = field(default_factory=dict)


AS_IS = Change('as-is', 'as it is')
FRESH = 'The new weights of {} start at random: no checkpoint of the original stem fits them.'


def propose(report: Report) -> list[Change]:
    """The changes that apply to an analysed network: of its stem, and of every downsampling."""
    local = [(name, layer) for name, layer in report.layers.items()
             if layer.kind in ('convolution', 'pooling') and not layer.is_global]
    return _stem_changes(local) + _downsampling_changes(local[1:])


def _stem_changes(local: Layers) -> list[Change]:
    if not local or not _editable(local[0][0]) or local[0][1].kind != 'convolution':
        return []
    name, stem = local[0]
    kernel, stride = stem.kernel[0], max(stem.stride)
    smaller = max(stem.kernel) > 3 and stride < min(stem.kernel)
    found = []
    if smaller:
        found.append(Change('stem-kernel-3', f'stem {name}: kernel {kernel} -> 3',
                            {name: dict(kernel_size=3)}, FRESH.format(name)))
    if stride > 1:
        found.append(Change(f'stem-stride-{stride // 2}',
                            f'stem {name}: stride {stride} -> {stride // 2}',
                            {name: dict(stride=stride // 2)}))
    pooled = len(local) > 1 and local[1][1].kind == 'pooling' and _editable(local[1][0])
    if smaller and (stride > 1 or pooled):
        edits: dict[str, Any] = {name: dict(kernel_size=3, stride=1)}
        if pooled:
            edits[local[1][0]] = None
        found.append(Change('small-image-stem', f'stem {name}: 3x3, stride 1'
                            + ', without pooling' * pooled, edits, FRESH.format(name)))
    return found


def _downsampling_changes(local: Layers) -> list[Change]:
    """One for each step down behind the stem: all layers of a stride that bring the map there."""
    steps: dict[Any, Layers] = {}
    for name, layer in local:
        if max(layer.stride) > 1 and _editable(name):
            steps.setdefault(layer.jump[0], []).append((name, layer))
    found = []
    for jump, layers in steps.items():
        if {layer.kind for _, layer in layers} == {'pooling'}:
            name = f'no-{layers[0][0]}'
            what = f'{", ".join(n for n, _ in layers)}: taken out'
            edits: dict[str, Any] = {n: None for n, _ in layers}
        else:
            name = f'no-stride-{jump}'
            what = f'layers that bring the stride to {jump}: stride 1'
            # an even pooling of stride 1 would give maps of another size than the convolutions'
            edits = {n: None if l.kind == 'pooling' and l.kernel[0] % 2 == 0 else dict(stride=1)
                     for n, l in layers}
        found.append(Change(name, what, edits))
    return found


def _editable(name: str) -> bool:
    """Whether a layer's name is that of a module which runs once."""
    return not {'#', ':'} & set(name)
