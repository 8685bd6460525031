"""Changes of a configured backbone: options of its class and edits of its layers."""
from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from ...openmmlab.config_file import config_scope, find_detector
from ...openmmlab.configured_network import build_extractor
from ...openmmlab.plain_backbone import plain_backbone, type_name
from ..analyze import FieldSize, ReceptiveFieldError, Report, analyze
from ..fpn_assignment import roi_assignment
from .advise import Advice, compare
from .changes import FRESH, Change, propose

SMALL_SIGMA = 0.7
"""Leaves a 7x7 kernel about as wide as a plain 3x3 one (``masked_extent`` 2.6)."""


def advise_config(cfg: Config, input_size: tuple[int, int], boxes: Any = None) -> list[Advice]:
    """Analyse the configured backbone and every change of it at one input size, best change first.

    ``report`` is that of the backbone alone, ``levels`` are the neck's outputs, finest first (the
    backbone's where the neck is refused).

    Args:
        cfg: of MMDetection, MMPretrain or this project.
        input_size: ``(H, W)`` in pixels.
        boxes: ``(n, 2)`` widths and heights of objects in input pixels, see
            :func:`~..fpn_assignment.resized_boxes`; None leaves them out of the ranking.

    Raises:
        ReceptiveFieldError: the backbone as it is can't be analysed.
    """
    backbone = find_detector(cfg['model'])[1]['backbone']

    def analyzed(change: Change) -> tuple[Report, list[FieldSize]]:
        network = build_extractor(cfg, changed_backbone(backbone, change))
        report = analyze(network.backbone, input_size)
        try:
            outputs = analyze(network, input_size).outputs
        except ReceptiveFieldError:  # the neck is refused
            outputs = report.outputs
        return report, sorted(outputs, key=lambda output: output.jump)  # YOLOv3's: coarsest first

    def proposed(report: Report) -> list[Change]:
        with config_scope(cfg):
            return list(_changes(backbone, report))

    return compare(analyzed, proposed, boxes, *roi_assignment(cfg))


def _changes(backbone: Mapping[str, Any], report: Report) -> Iterator[Change]:
    # A stem whose weights start afresh has to learn.
    frozen = backbone.get('frozen_stages', constructor_default(backbone, 'frozen_stages'))
    unfrozen = {} if frozen in (None, -1) else dict(frozen_stages=-1)
    for change in propose(report):
        afresh = any(values and 'kernel_size' in values for values in change.edits.values())
        yield replace(change, options=unfrozen) if afresh else change
    if backbone.get('deep_stem', constructor_default(backbone, 'deep_stem')) is False:
        yield Change('deep-stem', 'stem: three 3x3 convolutions for one 7x7',
                     note=FRESH.format('the stem'), options=dict(unfrozen, deep_stem=True))
    if (type_name(backbone) == 'ResNet' and not backbone.get('deep_stem')
            and not backbone.get('conv_cfg')):
        yield Change('gm-stem', f'stem with a Gaussian mask of sigma {SMALL_SIGMA}', options=dict(
            type='mmdet.GMResNet', gm_stem='static', freeze_masks=False,
            gm_stages=(False,) * backbone.get('num_stages', 4), gm_cfg=dict(init_sigma=SMALL_SIGMA)),
            note='The mask changes the effective field only, never the theoretical one.')


def changed_backbone(backbone: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """The config of a changed backbone; edits come on top of those that it has already."""
    changed = dict(backbone, **change.options)
    if change.edits and type_name(backbone) == 'EditedBackbone':
        edits = dict(backbone['edits'])
        for name, values in change.edits.items():
            edits[name] = values and {**(edits.get(name) or {}), **values}
        return dict(changed, edits=edits)
    if change.edits:
        return dict(type='EditedBackbone', edits=dict(change.edits), backbone=changed)
    return changed


def constructor_default(part: Mapping[str, Any], name: str) -> Any:
    """What a configured class takes where its config doesn't say; None if it has no such argument.
    To be called inside :func:`~gmconv_mmdet.openmmlab.config_file.config_scope`."""
    with MODELS.switch_scope_and_registry(part.get('_scope_')) as registry:
        built = registry.get(plain_backbone(part)['type'])
    for cls in inspect.getmro(built) if inspect.isclass(built) else ():
        found = inspect.signature(vars(cls).get('__init__', object.__init__)).parameters.get(name)
        if found is not None:
            return None if found.default is inspect.Parameter.empty else found.default
    return None
