"""A user's COCO-format annotation file: read, checked, divided into two."""
from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..messages import shortened

NEEDED = {'images': ('id', 'file_name', 'width', 'height'),
          'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area'),
          'categories': ('id', 'name')}
CONVERTER = ('globox converts folders in VOC\'s and YOLO\'s format (pip install globox; '
             'docs/own_data.md has the commands)')


class OwnDataError(ValueError):
    """Data or settings from which no config can be written; the message says why."""


@dataclass(frozen=True)
class AnnotatedSet:
    """An annotation file, its image folder, and what the file holds.

    Attributes:
        annotations: absolute path of the JSON file.
        images: absolute path of the folder that ``file_name`` starts from.
        content: lists ``images``, ``annotations`` and ``categories``.
    """
    annotations: Path
    images: Path
    content: dict[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the categories in the file's order, which is the one that mmdet numbers labels
        by, whatever order ``metainfo`` has."""
        return tuple(category['name'] for category in self.content['categories'])

    def boxes(self) -> list[dict]:
        """Annotations that mmdet trains on: no crowds, nothing below a pixel."""
        return [a for a in self.content['annotations']
                if not a.get('iscrowd') and min(a['bbox'][2:]) >= 1]

    def annotated_images(self) -> int:
        """Number of images with a box; mmdet's training leaves out the others."""
        return len({a['image_id'] for a in self.boxes()})


def read_set(annotations: str | Path, images: str | Path) -> AnnotatedSet:
    """Read an annotation file and compare it with its image folder.

    Raises:
        OwnDataError: a folder in place of a file, not COCO's format for detection, entries without
            what mmdet reads, categories of one name, images that are not there, no box.
    """
    path, folder = Path(annotations).expanduser().absolute(), Path(images).expanduser().absolute()
    if path.is_dir():
        raise OwnDataError(f'{path} is a folder, where a COCO annotation file (.json) is wanted. '
                           f'{CONVERTER}')
    if not path.is_file():
        raise OwnDataError(f'no annotation file {path}')
    if not folder.is_dir():
        raise OwnDataError(f'no image folder {folder}: give the folder that file_name in '
                           f'{path.name} starts from')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise OwnDataError(f'{path} is not readable as JSON ({error}). {CONVERTER}') from error
    _check_entries(content, path)
    _check_categories(content, path)
    _check_images(content['images'], path, folder)
    found = AnnotatedSet(path, folder, content)
    if not found.boxes():
        raise OwnDataError(f'{path} has no box of at least one pixel that is no crowd: there is '
                           'nothing to learn')
    return found


def _check_entries(content: Any, path: Path) -> None:
    if not isinstance(content, dict):
        raise OwnDataError(f'{path} holds a {type(content).__name__}, not the object with images, '
                           f'annotations and categories of COCO\'s format. {CONVERTER}')
    for kind, needed in NEEDED.items():
        entries = content.get(kind)
        if not isinstance(entries, list):
            raise OwnDataError(f'{path} has no list "{kind}": a COCO file for detection '
                               '(instances_*.json) is wanted')
        for number, entry in enumerate(entries):
            lacking = needed if not isinstance(entry, dict) else [k for k in needed
                                                                  if k not in entry]
            if lacking:
                hint = ': add width times height of the bbox' if list(lacking) == ['area'] else ''
                raise OwnDataError(f'{path}: entry {number} of {kind} lacks {", ".join(lacking)}, '
                                   f'which mmdet reads{hint}')
        ids = Counter(str(entry['id']) for entry in entries)
        twice = [id_ for id_, count in ids.items() if count > 1]
        if twice:
            raise OwnDataError(f'{path}: {kind} have the same id: {shortened(twice)}. Give each '
                               'its own')
    images = {image['id'] for image in content['images'] if _is_size(image)}
    if len(images) < len(content['images']):
        raise OwnDataError(f'{path}: images need a width and a height of at least 1 pixel')
    categories = {category['id'] for category in content['categories']}
    for a in content['annotations']:
        box = a['bbox']
        if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
            raise OwnDataError(f'{path}: bbox of annotation {a["id"]} must be four finite numbers '
                               f'[x, y, width, height], got {box!r}')
        if a['image_id'] not in images or a['category_id'] not in categories:
            raise OwnDataError(f'{path}: annotation {a["id"]} belongs to image {a["image_id"]} and '
                               f'category {a["category_id"]}, one of which the file does not list')


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9


def _is_size(image: dict) -> bool:
    return all(_is_number(image[side]) and image[side] >= 1 for side in ('width', 'height'))


def _check_categories(content: dict, path: Path) -> None:
    names = [category['name'] for category in content['categories']]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise OwnDataError(f'{path}: every category needs a name, got {names!r}')
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise OwnDataError(f'{path} has two categories of the name {shortened(twice)}: mmdet tells '
                           'categories apart by their names')


def _check_images(images: list[dict], path: Path, folder: Path) -> None:
    missing = [str(image['file_name']) for image in images
               if not (folder / str(image['file_name'])).is_file()]
    if missing:
        raise OwnDataError(f'{len(missing)} of {len(images)} images of {path.name} are not in '
                           f'{folder}: {shortened(missing)}. Give the folder that file_name starts '
                           'from')


def same_classes(train: AnnotatedSet, val: AnnotatedSet) -> None:
    """Refuse two sets that mmdet would number labels of in different ways.

    It follows each file's own order of categories, not that of ``metainfo``.

    Raises:
        OwnDataError: the two files name other categories, or the same ones in another order.
    """
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        what = (f'{shortened(odd)} in one of them only' if odd else 'the same in another order')
        raise OwnDataError(f'{train.annotations.name} and {val.annotations.name} need the same '
                           f'categories in the same order, have {what}: mmdet numbers labels by '
                           'each file\'s order and would mix them up. Copy the list "categories" '
                           'and the ids that follow from it')


def split_set(whole: AnnotatedSet, val_share: float,
              seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The contents of two annotation files, divided by image at random.

    Args:
        whole: has at least two images with a box.
        val_share: between 0 and 1, part of the images that goes to validation.
        seed: the same seed divides the same file in the same way.

    Returns:
        training and validation; both list all categories, and each has an image with a box.

    Raises:
        OwnDataError: less than two images with a box, or a share out of range.
    """
    if not 0 < val_share < 1:
        raise OwnDataError(f'the validation share lies between 0 and 1, got {val_share}')
    annotated = {a['image_id'] for a in whole.boxes()}
    if len(annotated) < 2:
        raise OwnDataError(f'{whole.annotations} has {len(annotated)} image with boxes: two are '
                           'needed to set one aside, more to measure anything. Or give --val')
    random = np.random.RandomState(seed)
    chosen: set = set()
    # Images with and without boxes apart, so that neither half goes without.
    for with_boxes in (True, False):
        ids = [image['id'] for image in whole.content['images']
               if (image['id'] in annotated) == with_boxes]
        count = round(len(ids) * val_share)
        if with_boxes:
            count = min(max(count, 1), len(ids) - 1)
        chosen |= {ids[i] for i in random.permutation(len(ids))[:count]}
    return _part(whole.content, chosen, False), _part(whole.content, chosen, True)


def _part(content: dict, chosen: set, inside: bool) -> dict:
    kept = [a for a in content['annotations'] if (a['image_id'] in chosen) == inside]
    return dict(content, images=[i for i in content['images'] if (i['id'] in chosen) == inside],
                # From 1: pycocotools takes an object with number 0 for one that was missed.
                annotations=[dict(a, id=number) for number, a in enumerate(kept, 1)])
