"""Entries of a COCO annotation file that would end a run, and those that mmdet leaves out."""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path

_NEEDED = {'images': ('id', 'file_name', 'width', 'height'),
           'categories': ('id', 'name'),
           'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area')}


def check_entries(content: dict, path: Path) -> list[str]:
    """What is wrong with the entries of an annotation file, each kind of fault in one sentence.

    Args:
        content (dict): of the file; ``images``, ``annotations`` and ``categories`` are lists.
        path (Path): of the file, for messages.
    """
    problems = []
    for kind, needed in _NEEDED.items():
        entries = content[kind]
        for says, is_bad in (
                ('are no objects with keys', lambda entry: not isinstance(entry, dict)),
                (f'lack one of {", ".join(needed)}',
                 lambda entry: not all(key in entry for key in needed)),
                ('have an id that is no number or text',
                 lambda entry: not all(_is_id(entry[key]) for key in needed if key.endswith('id')))):
            found = _told(path, kind, entries, is_bad, says)
            if found:
                return problems + [found]  # what follows reads these entries
        ids = Counter(entry['id'] for entry in entries)
        twice = [id_ for id_, count in ids.items() if count > 1]
        if twice:
            problems.append(f'{len(twice)} ids of {kind} in {path} are given more than once, '
                            f'{twice[0]!r} first: the evaluation would mix them up. Give each its '
                            'own id')
    images = {image['id'] for image in content['images']}
    problems += filter(None, (
        _told(path, 'images', content['images'], lambda image: not (
            isinstance(image['file_name'], str) and image['file_name'].isprintable()
            and image['file_name']), 'have a file_name that is no name'),
        _told(path, 'images', content['images'], lambda image: not (
            _is_size(image['width']) and _is_size(image['height'])),
            'have a width or height that is no whole number of at least 1'),
        _told(path, 'annotations', content['annotations'], lambda a: a['image_id'] not in images,
              'belong to images that it lacks: it is damaged, or two files were mixed'),
        _told(path, 'annotations', content['annotations'], lambda a: not _is_box(a['bbox']),
              'have a bbox that is not four finite numbers [x, y, width, height]'),
        _told(path, 'annotations', content['annotations'], lambda a: not _is_finite(a['area']),
              'have an area that is no finite number'),
    ))
    return problems


def left_out(content: dict, path: Path) -> list[str]:
    """What mmdet silently passes over or takes as it is: no faults, COCO itself has some of each.

    Args:
        content (dict): of a file in which :func:`check_entries` found nothing.
    """
    sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
    counts: Counter = Counter()
    for annotation in content['annotations']:
        x, y, width, height = annotation['bbox']
        image_width, image_height = sizes[annotation['image_id']]
        if width < 1 or height < 1 or annotation['area'] <= 0:
            counts['are smaller than a pixel: mmdet leaves them out'] += 1
        elif min(x + width, image_width) <= max(x, 0) or min(y + height, image_height) <= max(y, 0):
            counts['lie outside their images: mmdet leaves them out'] += 1
        elif x < -1 or y < -1 or x + width > image_width + 1 or y + height > image_height + 1:
            counts['reach beyond their images: mmdet cuts them off there when it resizes'] += 1
    total = len(content['annotations'])
    return [f'{path}: {count} of {total} boxes {what}' for what, count in counts.items()]


def vanishing_images(content: dict, path: Path, scale: tuple[int, int]) -> list[str]:
    """Images so narrow that nothing is left of them when they are fitted into ``scale``, (W, H).

    Args:
        content (dict): of a file in which :func:`check_entries` found nothing.
    """
    def vanishes(image: dict) -> bool:
        sides = image['width'], image['height']
        factor = min(max(scale) / max(sides), min(scale) / min(sides))
        return int(min(sides) * factor + 0.5) < 1  # as mmcv rounds

    found = _told(path, 'images', content['images'], vanishes,
                  f'are so long and narrow that nothing is left of them at {scale[0]}x{scale[1]} '
                  'pixels: cut them into parts')
    return [found] if found else []


def _told(path: Path, kind: str, entries: Sequence, is_bad: Callable[[object], bool],
          says: str) -> str | None:
    bad = [entry for entry in entries if is_bad(entry)]
    if not bad:
        return None
    first = repr(bad[0])
    return (f'{len(bad)} of {len(entries)} {kind} in {path} {says}; the first is '
            f'{first if len(first) <= 160 else first[:157] + "..."}')


def _is_id(value: object) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    # A whole number of any length is finite, but not all are floats.
    return isinstance(value, Real) and not isinstance(value, bool) and (
        -1e300 < value < 1e300 if isinstance(value, int) else math.isfinite(value))


def _is_size(value: object) -> bool:
    return _is_finite(value) and value >= 1 and value == int(value)


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_finite, value))
