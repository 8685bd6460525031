"""Objects of a COCO-format set, drawn at random from each of COCO's size bands."""
from __future__ import annotations

import json
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np

BANDS = {'small': 32**2, 'medium': 96**2, 'large': inf}
"""COCO's size bands: upper bounds of an annotation's ``area``, in pixels of the original image."""


@dataclass(frozen=True)
class CocoObject:
    """One object: its annotation's id, its size band and its box ``(x1, y1, x2, y2)`` in pixels of
    the original image."""
    annotation: int
    band: str
    box: tuple[float, float, float, float]


def draw_objects(annotations: str | Path, per_band: int,
                 seed: int = 0) -> dict[str, list[CocoObject]]:
    """Objects by image file, the same ones in every call.

    Args:
        annotations: a COCO ``instances_*.json``. Crowds and boxes below one pixel are left out; an
            annotation without ``area`` counts with that of its box.
        per_band: objects of each band, or all where there are fewer.

    Raises:
        ValueError: the file isn't a COCO annotation file, or holds no object.
    """
    try:
        content = json.loads(Path(annotations).read_text(encoding='utf-8'))
        files = {image['id']: image['file_name'] for image in content['images']}
        objects = [(files[a['image_id']], _object(a)) for a in content['annotations']
                   if not a.get('iscrowd') and min(a['bbox'][2:]) >= 1]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{annotations} is no COCO annotation file with images (id, file_name) '
                         f'and annotations (id, image_id, bbox): {error!r}') from error
    if not objects:
        raise ValueError(f'{annotations} holds no object of at least one pixel')
    left = dict.fromkeys(BANDS, per_band)
    drawn: dict[str, list[CocoObject]] = {}
    for index in np.random.default_rng(seed).permutation(len(objects)):
        file, item = objects[index]
        if left[item.band]:
            left[item.band] -= 1
            drawn.setdefault(file, []).append(item)
    return drawn


def _object(annotation: dict) -> CocoObject:
    x, y, width, height = annotation['bbox']
    area = annotation.get('area', width * height)
    band = next(band for band, bound in BANDS.items() if area < bound)
    return CocoObject(annotation['id'], band, (x, y, x + width, y + height))
