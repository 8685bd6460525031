"""COCO annotation files: whether one can be read and its entries are sound."""
from __future__ import annotations

import gc
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from pathlib import Path

from ..messages import shortened

_NEEDED = {'images': ('id', 'file_name', 'width', 'height'),
           'categories': ('id', 'name'),
           'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area')}


def read_annotations(path: Path, way_out: str) -> tuple[dict | None, list[str]]:
    """An annotation file's content, and what is wrong with the file.

    Args:
        path (Path): of the file.
        way_out (str): what to do where it is not there.

    Returns:
        tuple[dict | None, list[str]]: None where it is no COCO annotation file.
    """
    if path.is_dir():
        return None, [f'{path} is a folder, where a COCO annotation file (.json) is wanted']
    if not path.is_file():
        return None, [f'annotation file {path} is not there. {way_out}']
    try:
        with _no_garbage_collection():
            content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        return None, [f'annotation file {path} is not readable as JSON ({error}): copy or unpack '
                      'it again']
    if not isinstance(content, dict):
        return None, [f'annotation file {path} holds a {type(content).__name__}, not the object '
                      'with "images", "annotations" and "categories" that COCO\'s format asks for']
    missing = [key for key in ('images', 'annotations', 'categories')
               if not isinstance(content.get(key), list)]
    if missing:
        return None, [f'annotation file {path} lacks the list{"s" if len(missing) > 1 else ""} '
                      f'{", ".join(missing)}. A file for detection is wanted '
                      '(instances_*.json; COCO\'s image_info_*.json has no boxes)']
    return content, []


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """For JSON of any depth: a collection at the depth where Python stops may run a finaliser, which
    Python 3.8 answers by aborting ("cannot recover from stack overflow")."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def check_entries(content: dict, path: Path) -> list[str]:
    """What is wrong with the entries of an annotation file, each kind of fault in one sentence.

    Args:
        content (dict): of the file; ``images``, ``annotations`` and ``categories`` are lists.
        path (Path): of the file, for messages.
    """
    problems = []
    for kind, needed in _NEEDED.items():
        entries = content[kind]
        found = _bad_entries(path, kind, entries, needed)
        if found:
            return problems + [found]  # what follows reads these entries
        ids = Counter(entry['id'] for entry in entries)
        twice = [id_ for id_, count in ids.items() if count > 1]
        if twice:
            problems.append(f'{len(twice)} ids of {kind} in {path} are given more than once, '
                            f'{twice[0]!r} first: the evaluation would mix them up. Give each its '
                            'own id')
    names = [category['name'] for category in content['categories']]
    if not all(isinstance(name, str) and name for name in names):
        return problems + [f'{path}: every category needs a name that is text, got {names[:5]!r}']
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        problems.append(f'{path} has two categories named {shortened(twice)}: mmdet tells categories '
                        'apart by their names. Give each its own name')
    images = {image['id'] for image in content['images']}
    problems += filter(None, (
        told(path, 'images', content['images'], lambda image: not (
            isinstance(image['file_name'], str) and image['file_name'].isprintable()
            and image['file_name']), 'have a file_name that is no name: write the path of the '
             'image in its folder'),
        told(path, 'images', content['images'], lambda image: not (
            _is_size(image['width']) and _is_size(image['height'])),
             'have a width or height that is no whole number of at least 1: write the image\'s own'),
        told(path, 'annotations', content['annotations'], lambda a: a['image_id'] not in images,
             'belong to images that it lacks: it is damaged, or two files were mixed. Export it '
             'again'),
        told(path, 'annotations', content['annotations'], lambda a: not _is_box(a['bbox']),
             'have a bbox that is not four finite numbers [x, y, width, height]: mend or delete '
             'them'),
        told(path, 'annotations', content['annotations'], lambda a: not _is_finite(a['area']),
             'have an area that is no finite number: write width times height of the bbox'),
    ))
    return problems


def unknown_categories(content: dict, path: Path) -> list[str]:
    """Boxes of a category that a file, whose entries are sound otherwise, does not list."""
    ids = {category['id'] for category in content['categories']}
    found = told(path, 'annotations', content['annotations'], lambda a: a['category_id'] not in ids,
                 'have a category_id that its categories lack: the file is damaged or two files were '
                 'mixed. Export it again')
    return [found] if found else []


def _bad_entries(path: Path, kind: str, entries: Sequence, needed: Sequence[str]) -> str | None:
    found = told(path, kind, entries, lambda entry: not isinstance(entry, dict),
                 'are no objects with keys: export the file again')
    if found:
        return found
    lacking = [key for key in needed if any(key not in entry for entry in entries)]
    hint = ': add width times height of the bbox' if lacking == ['area'] else ''
    return (told(path, kind, entries, lambda entry: not all(key in entry for key in needed),
                 f'lack {" or ".join(lacking)}, which mmdet reads{hint}')
            or told(path, kind, entries, lambda entry: not all(
                _is_id(entry[key]) for key in needed if key.endswith('id')),
                 'have an id that is no number or text: number them from 1'))


def told(path: Path, kind: str, entries: Sequence, is_bad: Callable[[object], bool],
         says: str) -> str | None:
    """One sentence about the entries that are bad, with the first of them; None without any."""
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
