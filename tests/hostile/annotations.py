"""Broken annotation files and folders, found before a run's first iteration."""
from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from mmengine.config import Config

from gmconv_mmdet.lab.reproduce.preflight import PreflightError
from gmconv_mmdet.openmmlab.mim_files import shipped
from gmconv_mmdet.preflight.datasets import check_data

from ..lab.reproduce.conftest import CLASSES, edit_json, write_coco
from .case import Refused, case, tool

CHECK = '`tools/reproduce.py check`'
TRAIN = 'annotations/instances_train.json'


@lru_cache(maxsize=None)
def _row() -> Config:
    return Config.fromfile(shipped('configs/gmconv/faster-rcnn_r50-gm-stem-l1_fpn_1x_coco.py'))


def coco_config(root: Path) -> Config:
    """A row of Table V for the data of ``write_coco``."""
    cfg = _row().copy()
    for split, part in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        cfg[f'{split}_dataloader'].dataset.update(
            data_root=str(root), ann_file=f'annotations/instances_{part}.json',
            data_prefix=dict(img='images'), metainfo=dict(classes=CLASSES))
    cfg.val_evaluator.ann_file = str(root / 'annotations' / 'instances_val.json')
    cfg.test_evaluator = cfg.val_evaluator
    cfg.model.roi_head.bbox_head.num_classes = len(CLASSES)
    return cfg


def checks(root: Path, mode: str = 'heads', change: Callable = lambda cfg: None):
    """What the tool does with the data; the whole tool is tried with the first cases."""
    def act():
        cfg = coco_config(root)
        change(cfg)
        said = []
        problems = check_data(cfg, mode, remark=lambda text: said.append(f'preflight: {text}'))
        if problems:
            try:
                raise PreflightError(problems)
            except PreflightError as error:
                raise Refused(str(error)) from error
        return '\n'.join([*said, 'preflight: no problem'])
    return act


def data(folder: Path) -> Path:
    return write_coco(folder / 'some data', size=(96, 96))


def whole_tool(folder: Path, *arguments, command: str = 'check') -> Callable[[], str]:
    """``tools/reproduce.py`` with a whole config, written to the folder."""
    path = folder / 'config.py'
    coco_config(folder / 'some data').dump(path)
    return lambda: tool('reproduce.py', command, '--config', path, '--rows', 'plain',
                        *(arguments or ('--gpus', 0, '--work-root', folder / 'work')))


@case('annotations', 'none: sound data', CHECK, goes_on='no problem in the data')
def sound(folder):
    data(folder)
    return whole_tool(folder)


@case('annotations', 'several faults at once', CHECK, refused='4 problems found')
def several(folder):
    root = data(folder)
    edit_json(root / TRAIN, lambda coco: coco['categories'][1].update(name='bux'))
    (root / 'annotations' / 'instances_val.json').write_text('{"images": [')
    (root / 'images' / '0002.jpg').unlink()
    (root / 'images' / '0003.jpg').write_bytes(b'')
    return checks(root)


@case('annotations', 'categories that are numbers', CHECK, refused='categories .* are no objects')
def number_categories(folder):
    edit_json(data(folder) / TRAIN, lambda coco: coco.update(categories=[1, 2]))
    return whole_tool(folder)


TEXTS = {
    'an empty file': ('', 'not readable as JSON'),
    'not JSON': ('<xml/>', 'not readable as JSON'),
    'cut off': ('{"images": [{"id": 1,', 'not readable as JSON'),
    'a list': ('[]', 'holds a list'),
    'brackets 100,000 deep': ('[' * 100000, 'not readable as JSON'),
    'no lists in it': ('{"images": [], "annotations": {}}', 'lacks the lists annotations, cat'),
    'bytes that are no text': (b'\xff\xfe{}', 'not readable as JSON'),
}
for _fault, (_text, _says) in TEXTS.items():
    @case('annotations', _fault, CHECK, refused=_says)
    def text(folder, content=_text):
        root = data(folder)
        (root / TRAIN).write_bytes(content if isinstance(content, bytes) else content.encode())
        return checks(root)


@case('annotations', 'no such file', CHECK, refused='is not there')
def no_file(folder):
    root = data(folder)
    (root / TRAIN).unlink()
    return checks(root)


def first_image(**changes):
    return lambda coco: coco['images'][0].update(changes)


def first_box(**changes):
    return lambda coco: coco['annotations'][0].update(changes)


EDITS = {
    'images that are no objects': (lambda c: c.update(images=[1, 2]), 'images .* are no objects'),
    'annotations that are no objects': (lambda c: c['annotations'].append(None),
                                        '1 of 9 annotations .* are no objects'),
    'no image': (lambda c: c.update(images=[], annotations=[]), 'lists no image'),
    'no annotation': (lambda c: c.update(annotations=[]), 'no annotation of any class'),
    'an image without its width': (lambda c: c['images'][0].pop('width'), 'lack width, which mmdet reads'),
    'a width as text': (first_image(width='96'), 'no whole number of at least 1'),
    'a width of 0': (first_image(width=0), 'no whole number of at least 1'),
    'another size than the image has': (first_image(width=97), 'is 96x96 pixels, not 97x96'),
    'a file name that is a number': (first_image(file_name=5), 'file_name that is no name'),
    'an image that is not in the folder': (first_image(file_name='gone.jpg'),
                                           'are not in .*gone.jpg'),
    'two images of one id': (lambda c: c['images'][1].update(id=c['images'][0]['id']),
                             'ids of images .* more than once'),
    'two annotations of one id': (lambda c: c['annotations'][1].update(id=1),
                                  'ids of annotations .* more than once'),
    'two categories of one id': (lambda c: c['categories'][1].update(id=3),
                                 'ids of categories .* more than once'),
    'two categories of one name': (lambda c: c['categories'][0].update(name='box'),
                                   'two categories named box'),
    'an id that is a list': (first_box(id=[1]), 'id that is no number or text'),
    'an unknown category': (first_box(category_id=99), 'category_id that its categories lack'),
    'an unknown image': (first_box(image_id=12345), 'belong to images that it lacks'),
    'a class without a category': (lambda c: c['categories'].pop(), 'classes without a category'),
    'a box of three numbers': (first_box(bbox=[1, 2, 3]), 'not four finite numbers'),
    'a box as text': (first_box(bbox='1 2 3 4'), 'not four finite numbers'),
    'a box with NaN': (first_box(bbox=[1, 2, float('nan'), 4]), 'not four finite numbers'),
    'a box with an infinite side': (first_box(bbox=[1, 2, float('inf'), 4]),
                                    'not four finite numbers'),
    'an area as text': (first_box(area='12'), 'area that is no finite number'),
    'an annotation without a box': (lambda c: c['annotations'][0].pop('bbox'),
                                    'lack bbox, which mmdet reads'),
}
for _fault, (_edit, _says) in EDITS.items():
    @case('annotations', _fault, CHECK, refused=_says)
    def edited(folder, change=_edit):
        root = data(folder)
        edit_json(root / TRAIN, change)
        return checks(root)

PASSED_OVER = {
    'a box of no area': (first_box(bbox=[5, 5, 0, 9], area=0),
                         '1 of 8 boxes are smaller than a pixel: mmdet leaves them out'),
    'a box of negative width': (first_box(bbox=[5, 5, -3, 9]), 'smaller than a pixel'),
    'a box outside its image': (first_box(bbox=[500, 5, 9, 9]),
                                'lie outside their images: mmdet leaves them out'),
    'a box that reaches beyond its image': (first_box(bbox=[50, 5, 500, 9]), 'cuts them off'),
}
for _fault, (_edit, _says) in PASSED_OVER.items():
    @case('annotations', _fault, CHECK, goes_on=_says)
    def passed_over(folder, change=_edit):
        root = data(folder)
        edit_json(root / TRAIN, change)
        return checks(root)


@case('annotations', 'no image folder', CHECK, refused='image folder .* is not there')
def no_folder(folder):
    root = data(folder)
    (root / 'images').rename(folder / 'elsewhere')
    return checks(root)


@case('annotations', 'classes without their comma: ("disc")', CHECK, refused='a comma is missing')
def no_comma(folder):
    return checks(data(folder), change=lambda cfg: cfg.train_dataloader.dataset.update(
        metainfo=dict(classes=('disc'))))


@case('annotations', 'a head of another number of classes', CHECK, refused='num_classes is 80')
def head(folder):
    return checks(data(folder), change=lambda cfg: cfg.model.roi_head.bbox_head.update(
        num_classes=80))
