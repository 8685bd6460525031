"""Class names of a data set's config against its annotation file and the heads of the model."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..messages import shortened
from ..openmmlab.config_file import find_key

# What has a num_classes of its own: objectness, semantic segmentation, ImageNet's classes.
_OTHER_CLASSES = ('rpn_head', 'semantic_head', 'panoptic_fusion_head', 'backbone', 'train_cfg',
                  'test_cfg', 'data_preprocessor')


def class_names(dataset_cfg: dict, dataset_class: Any) -> tuple[object, list[str]]:
    """The classes a data set's config asks for, and what is wrong with them.

    ``metainfo=dict(classes=('cat'))`` is the string ``'cat'``, not a tuple: mmdet would take its
    letters, or its substrings, for class names.
    """
    metainfo = dataset_cfg.get('metainfo') or {}
    if 'classes' not in metainfo and 'CLASSES' in metainfo:
        return (), ['metainfo has CLASSES, as MMDetection 2 called it, which is ignored: write '
                    f'metainfo=dict(classes={_as_tuple(metainfo["CLASSES"])})']
    classes = metainfo.get('classes')
    if classes is None:
        classes = dataset_class.METAINFO['classes']
    if isinstance(classes, str):
        return classes, [f'metainfo classes is the string {classes!r}, not a tuple of names: a '
                         f'comma is missing. Write classes=({classes!r},)']
    problems = []
    if not classes:
        problems.append('metainfo classes is empty: name at least one class')
    odd = [name for name in classes if not isinstance(name, str)]
    if odd:
        problems.append(f'metainfo classes holds {odd!r}: class names are strings')
    else:
        twice = sorted(name for name, count in Counter(classes).items() if count > 1)
        if twice:
            problems.append(f'metainfo classes names {", ".join(twice)} more than once: name each '
                            'once')
    return tuple(classes), problems


def check_categories(content: dict, path: Path, classes: Sequence[str],
                     named: bool = True) -> list[str]:
    """An annotation file's categories against the class names of a config.

    Args:
        content (dict): of a file whose entries are sound.
        path (Path): of the file.
        classes (Sequence[str]): the names.
        named (bool): whether the config gives them; else they are those of the data set's type.
    """
    names = [category['name'] for category in content['categories']]
    missing = [name for name in classes if name not in names]
    if missing and not named:
        found = len(classes) - len(missing)
        ends = ('It stops with "need at least one array to concatenate"' if not found else
                f'Only {found} of them are there, and labels are mixed up')
        return [f'there is no metainfo, so mmdet looks for the {len(classes)} classes of its own, '
                f'{shortened(list(classes), 2)}, in {path}. {ends}. Write metainfo=dict(classes='
                f'{_as_tuple(names)}) in the dataset of each dataloader']
    if missing:
        return [f'classes without a category in {path}: {shortened(missing)}. mmdet would count '
                f'the others on, and mix labels up. Its categories are {shortened(names)}; let '
                'metainfo classes name those']
    wanted = {category['id'] for category in content['categories'] if category['name'] in classes}
    if not any(a['category_id'] in wanted for a in content['annotations']):
        return [f'{path} has no annotation of any class: there is nothing to learn or to evaluate. '
                'Take the file that has the boxes']
    return []


def label_order(content: dict, classes: Sequence[str]) -> tuple[str, ...]:
    """Class names in the order in which mmdet numbers them, which is the file's."""
    return tuple(category['name'] for category in content['categories']
                 if category['name'] in classes)


def misordered(path: Path, ordered: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Class names of a config in another order than ``ordered``, that of the file's categories."""
    return [] if tuple(ordered) == tuple(classes) else [
        f'metainfo classes come in another order than the categories of {path}, and mmdet numbers '
        'labels by the file: names in drawings and results would be mixed up. Write '
        f'classes={_as_tuple(ordered)} in the dataset of each dataloader']


def different_orders(train: Sequence[str], val: Sequence[str]) -> str:
    """How two sets of class names differ, where mmdet would number them differently; else ''."""
    if tuple(train) == tuple(val):
        return ''
    odd = sorted(set(train) ^ set(val))
    return f'{shortened(odd)} in one of them only' if odd else 'the same in another order'


def head_classes(model_cfg: object) -> Iterator[tuple[str, int]]:
    """Every ``num_classes`` for detections in a model's config, with the place where it stands."""
    for keys, node in find_key(model_cfg, 'num_classes'):
        if not any(key in _OTHER_CLASSES for key in keys):
            place = ''.join(f'[{key}]' if isinstance(key, int) else f'.{key}' for key in keys)
            yield f'model{place}.num_classes', node['num_classes']


def check_heads(model_cfg: object, classes: Sequence[str]) -> list[str]:
    """Heads of another number of classes than there are."""
    return [f'{place} is {number}, but there are {len(classes)} classes: set it to {len(classes)}, '
            + ('or the loss ends in an IndexError or an assertion'
               if isinstance(number, int) and number < len(classes) else
               'or the evaluation after the first epoch ends in an IndexError')
            for place, number in head_classes(model_cfg) if number != len(classes)]


def _as_tuple(names: Sequence[str], most: int = 8) -> str:
    shown = ', '.join(repr(name) for name in names[:most])
    return f'({shown}{", ..." if len(names) > most else "," if len(names) == 1 else ""})'
