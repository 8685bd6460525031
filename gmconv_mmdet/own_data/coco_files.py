"""A user's COCO-format annotation file: read, checked, divided into two."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..preflight.annotation_file import check_entries, read_annotations, unknown_categories
from ..preflight.boxes import check_format
from ..preflight.classes import different_orders
from ..preflight.image_files import check_images

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
            what mmdet reads, categories of one name, boxes in another format, images that are not
            there or damaged, no box.
    """
    path, folder = Path(annotations).expanduser().absolute(), Path(images).expanduser().absolute()
    content, problems = read_annotations(path, 'Give the path of a COCO annotation file')
    if content is None:
        raise OwnDataError(f'{problems[0]}. {CONVERTER}')
    # What follows takes the entries that were looked at before for sound.
    problems = check_entries(content, path) or (
        unknown_categories(content, path) + check_format(content, path)
        + check_images(content, path, folder, f'Give the folder that file_name in {path.name} '
                       'starts from'))
    if problems:
        raise OwnDataError('; '.join(problems))
    found = AnnotatedSet(path, folder, content)
    if not found.boxes():
        raise OwnDataError(f'{path} has no box of at least one pixel that is no crowd: there is '
                           'nothing to learn')
    return found


def same_classes(train: AnnotatedSet, val: AnnotatedSet) -> None:
    """Refuse two sets that mmdet would number labels of in different ways.

    It follows each file's own order of categories, not that of ``metainfo``.

    Raises:
        OwnDataError: the two files name other categories, or the same ones in another order.
    """
    differ = different_orders(train.classes, val.classes)
    if differ:
        raise OwnDataError(f'{train.annotations.name} and {val.annotations.name} need the same '
                           f'categories in the same order, have {differ}: mmdet numbers labels by '
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
