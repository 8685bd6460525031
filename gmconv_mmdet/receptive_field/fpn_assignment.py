"""Do the pyramid levels see the objects that are assigned to them?"""
from __future__ import annotations

import json
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from .analyze import FieldSize, Pair

FINEST_SCALE = 56
"""Boxes below twice this (side in pixels) belong to the finest level; MMDetection's default."""


@dataclass(frozen=True)
class LevelBoxes:
    """One pyramid level (0 is the finest) and the boxes that are assigned to it.

    Attributes:
        field: the level's receptive field, the path down from coarser levels included.
        stage: that of the backbone's map of the same jump, None if there is none.
        boxes: number of boxes of this level.
        beyond_field, beyond_stage, beyond_effective: of these, wider or higher than the level's
            ``r_max``, than the backbone map's, than the level's ``r_effective``.
    """
    level: int
    field: FieldSize
    stage: FieldSize | None
    boxes: int
    beyond_field: int
    beyond_stage: int | None
    beyond_effective: int


def assign_levels(sizes: np.ndarray, num_levels: int,
                  finest_scale: float = FINEST_SCALE) -> np.ndarray:
    """Level of each box: ``floor(log2(sqrt(w h) / finest_scale))``, clamped.

    As MMDetection's ``SingleRoIExtractor`` does (Lin et al., Feature Pyramid Networks, Eq. 1).

    Args:
        sizes: ``(n, 2)``, widths and heights in pixels of the network's input, positive.
        num_levels: at least 1.

    Returns:
        ``(n,)`` integers from 0 to ``num_levels - 1``.
    """
    if num_levels < 1:
        raise ValueError(f'num_levels is at least 1; got {num_levels}')
    scale = np.sqrt(np.asarray(sizes, float).reshape(-1, 2).prod(1))
    level = np.floor(np.log2(scale / finest_scale + 1e-6))
    return np.clip(level, 0, num_levels - 1).astype(int)


def roi_assignment(cfg: Mapping[str, Any]) -> tuple[int | None, float]:
    """How many pyramid levels the box head pools from (None without such a head), and the finest
    scale by which boxes are assigned to them."""
    from ..openmmlab.config_file import find_detector  # needs mmengine, which the rest does without
    extractor = find_detector(cfg['model'])[1].get('roi_head', {}).get('bbox_roi_extractor')
    if isinstance(extractor, (list, tuple)):
        extractor = extractor[0]
    if not extractor:
        return None, FINEST_SCALE
    return len(extractor['featmap_strides']), extractor.get('finest_scale', FINEST_SCALE)


def resized_boxes(annotations: str | Path | Mapping[str, Any], scale: tuple[int, int],
                  keep_ratio: bool = True) -> np.ndarray:
    """Widths and heights of all boxes of a COCO file as the network sees them.

    Args:
        annotations: a COCO ``instances_*.json``, or what it holds. Crowds and empty boxes are left
            out.
        scale: ``(W, H)`` to which images are resized, as in a config.
        keep_ratio: fit into ``scale``, as MMDetection's ``Resize``, else stretch.

    Returns:
        ``(n, 2)`` in pixels.

    Raises:
        ValueError: if the file isn't a COCO annotation file.
    """
    try:
        content = annotations if isinstance(annotations, Mapping) else json.loads(
            Path(annotations).read_text(encoding='utf-8'))
        images = {image['id']: (image['width'], image['height']) for image in content['images']}
        boxes = [(images[a['image_id']], a['bbox'][2:]) for a in content['annotations']
                 if not a.get('iscrowd') and min(a['bbox'][2:]) > 0]
    except (KeyError, TypeError, ValueError) as error:
        name = 'this' if isinstance(annotations, Mapping) else annotations
        raise ValueError(f'{name} is no COCO annotation file with images (id, width, '
                         f'height) and annotations (image_id, bbox): {error!r}') from error
    def factor(image: tuple[int, int]) -> list[float]:
        if keep_ratio:
            return [min(max(scale) / max(image), min(scale) / min(image))] * 2
        return [scale[0] / image[0], scale[1] / image[1]]

    return np.array([np.multiply(box, factor(image)) for image, box in boxes], float).reshape(-1, 2)


def boxes_beyond_field(levels: Sequence[FieldSize], stages: Sequence[FieldSize], sizes: np.ndarray,
                       finest_scale: float = FINEST_SCALE) -> list[LevelBoxes]:
    """Assign boxes to levels and count those that no unit of their level sees whole.

    Args:
        levels: fields of the levels that boxes are pooled from, finest first.
        stages: fields of the backbone's maps.
        sizes: ``(n, 2)`` widths and heights in pixels, see :func:`resized_boxes`.
    """
    of_level = assign_levels(sizes, len(levels), finest_scale)
    rows = []
    for level, field in enumerate(levels):
        mine = sizes[of_level == level]
        stage = next((s for s in stages if s.jump == field.jump), None)
        rows.append(LevelBoxes(level, field, stage, len(mine), beyond(mine, field.r_max),
                               None if stage is None else beyond(mine, stage.r_max),
                               beyond(mine, field.r_effective)))
    return rows


def beyond(sizes: np.ndarray, field: Pair) -> int:
    """Number of boxes ``(w, h)`` wider or higher than a field ``(h, w)``."""
    height, width = field
    if (height, width) == (inf, inf):
        return 0
    return int(((sizes[:, 0] > width) | (sizes[:, 1] > height)).sum())
