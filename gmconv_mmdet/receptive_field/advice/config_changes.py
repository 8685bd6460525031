"""Changes of a configured backbone: each a new ``backbone`` config, so that what is advised builds."""
from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from ...openmmlab.config_file import config_scope, find_detector
from ...openmmlab.configured_network import build_extractor
from ...openmmlab.plain_backbone import plain_backbone
from ..analyze import FieldSize, ReceptiveFieldError, Report, analyze
from ..fpn_assignment import roi_assignment
from .changes import FRESH, Change, propose
from .ranking import Advice, ranked, scores

SMALL_SIGMA = 0.7
"""Leaves a 7x7 kernel about as wide as a plain 3x3 one (``masked_extent`` 2.6)."""


def advise_config(cfg: Config, input_size: tuple[int, int], boxes: Any = None) -> list[Advice]:
    """Analyse the configured backbone and every change of it at one input size, best change first.

    ``report`` is that of the backbone alone, ``levels`` are the neck's outputs.

    Args:
        cfg: of MMDetection, MMPretrain or this project.
        input_size: ``(H, W)`` in pixels.
        boxes: ``(n, 2)`` widths and heights of objects in input pixels, see
            :func:`~..fpn_assignment.resized_boxes`; None leaves them out of the ranking.

    Raises:
        ReceptiveFieldError: the backbone as it is can't be analysed.
    """
    backbone = plain(find_detector(cfg['model'])[1]['backbone'])
    report, levels = _analyzed(cfg, backbone, input_size)
    count, finest_scale = roi_assignment(cfg)
    with config_scope(cfg):
        changes = list(_changes(backbone, report))
    found = []
    for change in [Change('as-is', 'the config as it is', backbone=backbone), *changes]:
        try:
            changed, maps = _analyzed(cfg, change.backbone, input_size)
        except (ReceptiveFieldError, ValueError) as error:
            found.append(Advice(change, None, error=str(error)))
            continue
        finer = maps[0].jump[0] / levels[0].jump[0] if len(maps) == len(levels) else 1
        found.append(Advice(change, changed, maps, scores(
            changed, maps[:count], report, boxes, finest_scale * finer)))
    return ranked(found)


def _analyzed(cfg: Config, backbone: Mapping[str, Any],
              input_size: tuple[int, int]) -> tuple[Report, Sequence[FieldSize]]:
    """The backbone's report, and the neck's outputs, finest first (the backbone's if the neck is
    refused)."""
    network = build_extractor(cfg, backbone)
    report = analyze(network.backbone, input_size)
    try:
        outputs = analyze(network, input_size).outputs
    except ReceptiveFieldError:
        outputs = report.outputs
    return report, sorted(outputs, key=lambda output: output.jump)  # YOLOv3's are coarsest first


def _changes(backbone: dict[str, Any], report: Report) -> Iterator[Change]:
    for change in propose(report):
        afresh = any(values and 'kernel_size' in values for values in change.edits.values())
        yield replace(change, backbone=_edited(_unfrozen(backbone) if afresh else backbone,
                                               change.edits))
    if backbone.get('deep_stem', constructor_default(backbone, 'deep_stem')) is False:
        yield Change('deep-stem', 'stem: three 3x3 convolutions for one 7x7',
                     backbone=dict(_unfrozen(backbone), deep_stem=True),
                     note=FRESH.format('the stem'))
    if (str(backbone['type']).rpartition('.')[2] == 'ResNet' and not backbone.get('deep_stem')
            and not backbone.get('conv_cfg')):
        yield Change('gm-stem', f'stem with a Gaussian mask of sigma {SMALL_SIGMA}', backbone=dict(
            backbone, type='mmdet.GMResNet', gm_stem='static', freeze_masks=False,
            gm_stages=(False,) * backbone.get('num_stages', 4),
            gm_cfg=dict(init_sigma=SMALL_SIGMA)),
            note='The mask changes the effective field only, never the theoretical one.')


def _edited(backbone: dict[str, Any], edits: Mapping[str, Any]) -> dict[str, Any]:
    """The backbone with layer edits, on top of those that it has already."""
    if backbone['type'] == 'EditedBackbone':
        return dict(backbone, edits={**backbone['edits'], **edits})
    return dict(type='EditedBackbone', edits=dict(edits), backbone=backbone)


def _unfrozen(backbone: dict[str, Any]) -> dict[str, Any]:
    """A stem whose weights start afresh has to learn."""
    if backbone.get('frozen_stages', constructor_default(backbone, 'frozen_stages')) in (None, -1):
        return backbone
    return dict(backbone, frozen_stages=-1)


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


def plain(value: Any) -> Any:
    """ConfigDicts as plain dicts, so that they print as literals."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    return copy.deepcopy(value)
