"""What would break a run hours from now, found before its first iteration, all of it at once."""
from __future__ import annotations

import gc
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from pathlib import Path

from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from PIL import Image

from ...checkpoints.whole_checkpoint import is_whole_checkpoint
from ...messages import shortened
from ...openmmlab.configured_size import configured_scale
from ...pretrained import load_pretrained
from .table import CocoFolder, backbone_weights

SAMPLE_SIZE = 200
# A checkpoint holds weights and momentum in fp32: 4 x 2 bytes for 42, 69 (Cascade R-CNN) million
# parameters. A run keeps two and writes a third.
_CHECKPOINT_GB = {'faster-rcnn': 0.34, 'cascade-rcnn': 0.56}
_CHECKPOINTS_AT_ONCE = 3
_NEEDED = {'images': ('id', 'file_name', 'width', 'height'),
           'categories': ('id', 'name'),
           'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area')}


class PreflightError(Exception):
    """Problems found before a run.

    Attributes:
        problems (list[str]): one sentence or two each: what, where, the way out.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        number = f'{len(self.problems)} problem{"s" if len(self.problems) > 1 else ""}'
        super().__init__(f'{number} found before the first iteration:\n' + '\n'.join(
            f'{i}. {problem}' for i, problem in enumerate(self.problems, 1)))


def read_annotations(path: Path) -> tuple[dict | None, list[str]]:
    """An annotation file's content, and what is wrong with the file.

    Returns:
        tuple[dict | None, list[str]]: None where it is no COCO annotation file.
    """
    if not path.is_file():
        return None, [f'annotation file {path} is not there. --data-root names the folder that '
                      'holds annotations/ and the image folders; --train-annotations and '
                      '--val-annotations name files of other names']
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


def annotated_classes(data: CocoFolder) -> tuple[str, ...] | None:
    """The names of the categories that a data set is annotated with, in its order; None where its
    annotations can't be read."""
    content, _ = read_annotations(data.path('train_annotations'))
    if content is None or not all(isinstance(entry, dict) for entry in content['categories']):
        return None
    return tuple(str(category.get('name')) for category in content['categories'])


def class_names(dataset_cfg: dict) -> tuple[object, list[str]]:
    """The classes a data set's config asks for, and what is wrong with them.

    ``metainfo=dict(classes=('cat'))`` is the string ``'cat'``, not a tuple: mmdet would take its
    letters, or its substrings, for class names.
    """
    metainfo = dataset_cfg.get('metainfo') or {}
    classes = metainfo.get('classes', metainfo.get('CLASSES'))
    if classes is None:
        classes = DATASETS.get(dataset_cfg['type']).METAINFO['classes']
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
            problems.append(f'metainfo classes names {", ".join(twice)} more than once')
    return tuple(classes), problems


def head_classes(model_cfg: object, path: str = 'model') -> Iterator[tuple[str, int]]:
    """Every ``num_classes`` in a model's config, with the place where it stands."""
    if isinstance(model_cfg, dict):
        for key, value in model_cfg.items():
            if key == 'num_classes':
                yield f'{path}.num_classes', value
            else:
                yield from head_classes(value, f'{path}.{key}')
    elif isinstance(model_cfg, (list, tuple)):
        for i, value in enumerate(model_cfg):
            yield from head_classes(value, f'{path}[{i}]')


def check_categories(content: dict, path: Path, classes: Sequence[str]) -> list[str]:
    """An annotation file's categories against the class names of a config."""
    problems = []
    names = [str(category.get('name')) for category in content['categories']]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        problems.append(f'{path} has two categories named {shortened(twice)}: mmdet tells categories '
                        'apart by their names')
    missing = [name for name in classes if name not in names]
    if missing:
        problems.append(f'classes without a category in {path}: {shortened(missing)}. mmdet would count '
                        f'the others on, and mix labels up. Its categories are {shortened(names)}; let '
                        'metainfo classes name those')
    ids = {category.get('id') for category in content['categories']}
    strange = sum(annotation.get('category_id') not in ids for annotation in content['annotations'])
    if strange:
        problems.append(f'{strange} annotations in {path} have a category_id that its categories '
                        'lack: the file is damaged or two files were mixed')
    wanted = {category.get('id') for category in content['categories']
              if category.get('name') in classes}
    if not any(a.get('category_id') in wanted for a in content['annotations']):
        problems.append(f'{path} has no annotation of any class: there is nothing to learn or to '
                        'evaluate')
    return problems


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


def _bad_entries(path: Path, kind: str, entries: Sequence, needed: Sequence[str]) -> str | None:
    return (_told(path, kind, entries, lambda entry: not isinstance(entry, dict),
                  'are no objects with keys')
            or _told(path, kind, entries, lambda entry: not all(key in entry for key in needed),
                     f'lack one of {", ".join(needed)}')
            or _told(path, kind, entries, lambda entry: not all(
                _is_id(entry[key]) for key in needed if key.endswith('id')),
                'have an id that is no number or text'))


def left_out(content: dict, path: Path) -> list[str]:
    """What mmdet silently passes over or takes as it is: no faults, COCO itself has some of each.

    Args:
        content (dict): of a file in which :func:`check_entries` found nothing.
        path (Path): of the file.
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
    """Images so narrow that nothing is left of them when they are fitted into ``scale``.

    Args:
        content (dict): of a file in which :func:`check_entries` found nothing.
        path (Path): of the file.
        scale (tuple[int, int]): (W, H).
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


def check_images(content: dict, annotations: Path, folder: Path, mode: str,
                 progress: Callable[[int, int], None] = lambda done, total: None) -> list[str]:
    """The images of an annotation file: all must exist, and those that are opened must be images of
    the noted size.

    Args:
        content (dict): of an annotation file whose entries are sound.
        annotations (Path): its path, for messages.
        folder (Path): the image folder.
        mode (str): 'sample' opens 200 of them, evenly spread; 'all' opens every one.
        progress (Callable): called with (images done, images in total).
    """
    if not folder.is_dir():
        return [f'image folder {folder} is not there, which {annotations} needs. --train-images '
                'and --val-images name folders of other names']
    images = content['images']
    if not images:
        return [f'{annotations} lists no image']
    # One listing a folder instead of one question a file: minutes less on a network disk.
    present = {}
    missing = []
    for image in images:
        parent, name = os.path.split(image['file_name'])
        if parent not in present:
            place = folder / parent
            present[parent] = set(os.listdir(place)) if place.is_dir() else set()
        if name not in present[parent]:
            missing.append(image['file_name'])
    problems = []
    if missing:
        problems.append(f'{len(missing)} of {len(images)} images of {annotations} are not in '
                        f'{folder}: {shortened(missing)}')
    absent = set(missing)
    there = [image for image in images if image['file_name'] not in absent]
    if mode == 'sample':
        there = there[::max(1, len(there) // SAMPLE_SIZE)]
    bad = []
    for done, image in enumerate(there, 1):
        path = folder / image['file_name']
        try:
            with Image.open(path) as opened:
                size = opened.size
                if mode == 'all':
                    opened.load()  # finds files that are cut off
            if size != (image['width'], image['height']):
                bad.append(f'{image["file_name"]} is {size[0]}x{size[1]} pixels, not '
                           f'{image["width"]}x{image["height"]}')
        except Exception as error:  # what decoders raise on damaged files has no end
            bad.append(f'{image["file_name"]} is unreadable ({error})')
        progress(done, len(there))
    if bad:
        problems.append(f'{len(bad)} of the {len(there)} images of {folder} that were opened '
                        f'differ from {annotations} or are damaged: {shortened(bad)}')
    return problems


def data_of(cfg: Config) -> str:
    """What :func:`check_data` looks at, to check each data set once."""
    return str([(loader.dataset, loader.batch_size) for loader in
                (cfg.train_dataloader, cfg.val_dataloader)] + list(head_classes(cfg.model)))


def check_data(cfg: Config, image_mode: str = 'sample',
               progress: Callable[[str, int, int], None] = lambda what, done, total: None,
               number_of_images: dict[str, int] | None = None,
               remark: Callable[[str], None] = lambda text: None) -> list[str]:
    """Annotation files, categories, heads and images of any mmdet config on COCO-format data.

    Args:
        cfg (Config): with ``train_dataloader`` and ``val_dataloader`` of a COCO-format data set.
        image_mode (str): 'sample' or 'all', see :func:`check_images`.
        progress (Callable): called with (image folder, images done, images in total).
        number_of_images (dict[str, int], optional): that the two sets must have,
            :data:`~.table.COCO_2017_IMAGES` where the paper's tables are to be filled.
        remark (Callable): called with what mmdet passes over in silence, which is no problem.

    Returns:
        list[str]: all problems, empty where there is none.
    """
    problems = []
    for split in ('train', 'val'):
        dataset = cfg[f'{split}_dataloader'].dataset
        while 'ann_file' not in dataset and isinstance(dataset.get('dataset'), dict):
            dataset = dataset.dataset  # RepeatDataset and its like
        if 'ann_file' not in dataset:
            remark(f'the {split} set is a {dataset.get("type")} without an ann_file: not checked')
            continue
        root = Path(dataset.get('data_root') or '')
        annotations = root / dataset.ann_file
        folder = root / dataset.get('data_prefix', {}).get('img', '')
        classes, found = class_names(dataset)
        problems += found
        if not found:
            problems += [f'{place} is {number} in the {split} set\'s config, but metainfo names '
                         f'{len(classes)} classes: set them equal'
                         for place, number in head_classes(cfg.model) if number != len(classes)]
        content, found = read_annotations(annotations)
        problems += found
        if content is not None:
            number = (number_of_images or {}).get(split, len(content['images']))
            if len(content['images']) != number:
                problems.append(f'{annotations} has {len(content["images"])} images, COCO 2017\'s '
                                f'{split} set has {number}: another data set can\'t fill the '
                                'paper\'s tables. --rehearse tries the machinery on any')
            faults = check_entries(content, annotations)
            problems += faults
            if faults:
                continue  # what follows takes sound entries for granted
            for text in left_out(content, annotations):
                remark(text)
            scale, keep_ratio = configured_scale(cfg) or (None, False)
            if keep_ratio:
                problems += vanishing_images(content, annotations, scale)
            if not isinstance(classes, str):
                problems += check_categories(content, annotations, classes)
            problems += check_images(content, annotations, folder, image_mode,
                                     lambda done, total, at=folder: progress(str(at), done, total))
    return list(dict.fromkeys(problems))  # heads are the same for both sets


def check_training(cfg: Config) -> list[str]:
    """Whether a config trains and is evaluated in a way that the driver can follow."""
    problems = []
    if not isinstance(cfg.get('train_cfg'), dict) or not cfg.train_cfg.get('max_epochs'):
        problems.append('train_cfg has no max_epochs: the driver follows trainings by epochs '
                        '(EpochBasedTrainLoop), and resumes after the last whole one')
    evaluator = cfg.get('test_evaluator')
    metric = evaluator.get('metric', 'bbox') if isinstance(evaluator, dict) else ()
    if not (isinstance(evaluator, dict) and str(evaluator.get('type')).endswith('CocoMetric')
            and 'ann_file' in evaluator and 'bbox' in ([metric] if isinstance(metric, str)
                                                       else metric)):
        problems.append('test_evaluator is not one CocoMetric (or FastCocoMetric) with an ann_file '
                        'and metric=\'bbox\': AP by size is what is compared')
    return problems


def check_start(cfg: Config) -> list[str]:
    """The detector that a config starts from, where it is a local file."""
    start = cfg.get('load_from')
    if not start or '://' in str(start) or is_whole_checkpoint(Path(start)):
        return []
    return [f'load_from {start} is not there or cut short: train it first, or name another']


def check_weights(cfg: Config, row_name: str) -> list[str]:
    """The backbone's checkpoint, where it is a local file: loaded once, on the CPU."""
    source = backbone_weights(cfg)
    if source is None or '://' in source:
        return []
    backbone_cfg = cfg.model.backbone.copy()
    init = backbone_cfg.pop('init_cfg', None)
    if not isinstance(init, dict):
        return []  # in a backbone within a backbone: its own matter
    options = {key: init[key] for key in ('preserve', 'prefix', 'allow') if key in init}
    backbone = MODELS.build(dict(backbone_cfg, init_cfg=None))
    try:
        report = load_pretrained(backbone, source, **options)
    except (OSError, ValueError) as error:
        return [f'{row_name}: {error}']
    if backbone_cfg.type == 'ResNet' and (report.folded or report.approximated):
        return [f'{row_name} is a row without GMConv, but {source} holds a network with masks: the '
                'baseline would start from the method it is compared with. Name plain weights with '
                '--pretrained-plain']
    return []


def check_disk(work_root: Path, detectors: Sequence[str | None]) -> list[str]:
    """Room for the checkpoints of runs that are still to be made, as far as their size is known.

    Args:
        work_root (Path): where runs go; need not exist.
        detectors (Sequence): of each such run; None where it is not one of the tables'.
    """
    place = work_root
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        return [f'{place} is not writable: name another folder for the runs']
    needed = _CHECKPOINTS_AT_ONCE * sum(_CHECKPOINT_GB.get(detector, 0) for detector in detectors)
    free = shutil.disk_usage(place).free / 1e9
    if free < needed:
        return [f'{free:.1f} GB are free at {place}, the checkpoints of {len(detectors)} runs need '
                f'{needed:.1f} GB: free some, name another --work-root, or choose --rows']
    return []


def check_gpus(gpus: int, launcher: str) -> list[str]:
    """Whether the machine has the GPUs that were asked for. Slurm's are elsewhere."""
    if launcher == 'slurm':
        return [] if shutil.which('srun') else ['--launcher slurm needs Slurm\'s srun, which is '
                                                'not on PATH']
    import torch
    found = torch.cuda.device_count()
    if gpus > found:
        return [f'--gpus {gpus}, but torch sees {found}. --gpus 0 uses the CPU']
    return []
