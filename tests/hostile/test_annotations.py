"""Broken annotation files, found before a run's first iteration; tests/preflight has more of them."""
from __future__ import annotations

import pytest

from ..lab.reproduce.conftest import edit_json
from .coco_data import TRAIN, check, data, whole_tool
from .outcome import assert_goes_on, assert_refused


def test_the_whole_tool(tmp_path):
    root = data(tmp_path)
    assert_goes_on(tmp_path, whole_tool(tmp_path), 'no problem in the data')
    edit_json(root / TRAIN, lambda coco: coco.update(categories=[1, 2]))
    assert_refused(tmp_path, whole_tool(tmp_path), 'categories .* are no objects')


def test_several_faults_at_once(tmp_path):
    root = data(tmp_path)
    edit_json(root / TRAIN, lambda coco: coco['categories'][1].update(name='bux'))
    (root / 'annotations' / 'instances_val.json').write_text('{"images": [')
    (root / 'images' / '0002.jpg').unlink()
    (root / 'images' / '0003.jpg').write_bytes(b'')
    assert_refused(tmp_path, lambda: check(root), '4 problems found')


@pytest.mark.parametrize('content, says', [
    (b'', 'not readable as JSON'), (b'<xml/>', 'not readable as JSON'), (b'[]', 'holds a list'),
    pytest.param(b'[' * 100000, 'not readable as JSON', id='brackets 100,000 deep'),
    (b'{"images": [], "annotations": {}}', 'lacks the lists annotations, cat'),
    (b'\xff\xfe{}', 'not readable as JSON')])
def test_no_annotation_file(content, says, tmp_path):
    root = data(tmp_path)
    (root / TRAIN).write_bytes(content)
    assert_refused(tmp_path, lambda: check(root), says)


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
    'a file name that is a number': (first_image(file_name=5), 'file_name that is no name'),
    'two images of one id': (lambda c: c['images'][1].update(id=c['images'][0]['id']),
                             'ids of images .* more than once'),
    'two categories of one id': (lambda c: c['categories'][1].update(id=3),
                                 'ids of categories .* more than once'),
    'an id that is a list': (first_box(id=[1]), 'id that is no number or text'),
    'an unknown category': (first_box(category_id=99), 'category_id that its categories lack'),
    'a class without a category': (lambda c: c['categories'].pop(), 'classes without a category'),
    'a box of three numbers': (first_box(bbox=[1, 2, 3]), 'not four finite numbers'),
    'a box as text': (first_box(bbox='1 2 3 4'), 'not four finite numbers'),
    'a box with an infinite side': (first_box(bbox=[1, 2, float('inf'), 4]),
                                    'not four finite numbers'),
    'an area as text': (first_box(area='12'), 'area that is no finite number'),
    'an annotation without a box': (lambda c: c['annotations'][0].pop('bbox'),
                                    'lack bbox, which mmdet reads'),
}


@pytest.mark.parametrize('fault', EDITS)
def test_entries(fault, tmp_path):
    change, says = EDITS[fault]
    root = data(tmp_path)
    edit_json(root / TRAIN, change)
    assert_refused(tmp_path, lambda: check(root), says)


@pytest.mark.parametrize('change, says', [
    pytest.param(first_box(bbox=[5, 5, 0, 9], area=0),
                 '1 of 8 boxes are smaller than a pixel: mmdet leaves them out', id='no area'),
    pytest.param(first_box(bbox=[5, 5, -3, 9]), 'smaller than a pixel', id='negative width'),
    pytest.param(first_box(bbox=[500, 5, 9, 9]), 'lie outside their images: mmdet leaves them out',
                 id='outside'),
    pytest.param(first_box(bbox=[50, 5, 500, 9]), 'cuts them off', id='reaches beyond')])
def test_boxes_that_mmdet_passes_over(change, says, tmp_path):
    root = data(tmp_path)
    edit_json(root / TRAIN, change)
    assert_goes_on(tmp_path, lambda: check(root), says)
