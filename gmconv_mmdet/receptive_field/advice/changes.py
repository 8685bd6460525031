"""Changes of one hyper-parameter that let the receptive field of any network grow more slowly.

The advice of arXiv 2211.14487: where a network's smallest useful input lies above the images that it
gets, make the stem smaller or leave out a downsampling.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..analyze import LayerField, Report

FRESH = 'The new weights of {} start at random: no checkpoint of the original stem fits them.'


@dataclass(frozen=True)
class Change:
    """One change of a network.

    Attributes:
        name: short, as ``--change`` takes it.
        description: what is changed.
        edits: for :func:`gmconv_mmdet.edit_layers`.
        note: what follows from it for training.
        options: of a configured backbone, set before the edits.
    """
    name: str
    description: str
    edits: Mapping[str, Any] = field(default_factory=dict)
    note: str = ''
    options: Mapping[str, Any] = field(default_factory=dict)


AS_IS = Change('as-is', 'the network as it is')


def propose(report: Report) -> list[Change]:
    """The changes that apply to an analysed network: of its stem, and of every downsampling."""
    local = [(name, layer) for name, layer in report.layers.items()
             if layer.kind in ('convolution', 'pooling') and not layer.is_global]
    return _stem_changes(local) + _downsampling_changes(local[1:])


def _stem_changes(local: list[tuple[str, LayerField]]) -> list[Change]:
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
        half = stride // 2
        found.append(Change(f'stem-stride-{half}', f'stem {name}: stride {stride} -> {half}',
                            {name: dict(stride=half)}))
    pooled = len(local) > 1 and local[1][1].kind == 'pooling' and _editable(local[1][0])
    if smaller and (stride > 1 or pooled):
        edits = {name: dict(kernel_size=3, stride=1), **({local[1][0]: None} if pooled else {})}
        found.append(Change('small-image-stem', f'stem {name}: 3x3, stride 1'
                            + ', without pooling' * pooled, edits, FRESH.format(name)))
    return found


def _downsampling_changes(local: list[tuple[str, LayerField]]) -> list[Change]:
    """One for each step down behind the stem: all layers of a stride that bring the map there."""
    steps: dict[Any, dict[str, LayerField]] = {}
    for name, layer in local:
        if max(layer.stride) > 1 and _editable(name):
            steps.setdefault(layer.jump[0], {})[name] = layer
    found = []
    for jump, layers in steps.items():
        if all(layer.kind == 'pooling' for layer in layers.values()):
            found.append(Change(f'no-{next(iter(layers))}', f'{", ".join(layers)}: taken out',
                                dict.fromkeys(layers)))
            continue
        # an even pooling of stride 1 would give maps of another size than the convolutions'
        edits = {name: None if layer.kind == 'pooling' and layer.kernel[0] % 2 == 0
                 else dict(stride=1) for name, layer in layers.items()}
        found.append(Change(f'no-stride-{jump}',
                            f'layers that bring the stride to {jump}: stride 1', edits))
    return found


def _editable(name: str) -> bool:
    """Whether a layer's name is that of a module which runs once."""
    return not {'#', ':'} & set(name)
