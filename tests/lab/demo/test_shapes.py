"""The procedural detection set."""
import hashlib

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from gmconv_mmdet.lab.demo.shapes import CLASSES, ShapesError, make_shapes

IMAGES = dict(train=40, val=30)


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    assert make_shapes(folder, **IMAGES)
    return folder


def split_of(folder, split):
    return COCO(str(folder / 'annotations' / f'instances_{split}.json'))


def digest(folder):
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files}


@pytest.mark.slow
@pytest.mark.parametrize('split', ['train', 'val'])
def test_is_a_coco_set(shapes, split):
    coco = split_of(shapes, split)
    assert len(coco.imgs) == IMAGES[split]
    assert [c['name'] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    assert {a['category_id'] for a in coco.anns.values()} == set(coco.getCatIds())
    for image in coco.imgs.values():
        pixels = cv2.imread(str(shapes / split / image['file_name']))
        assert pixels.shape == (image['height'], image['width'], 3)
        assert coco.getAnnIds(image['id']), 'an image without objects'
    for entry in coco.anns.values():
        image = coco.imgs[entry['image_id']]
        x, y, w, h = entry['bbox']
        assert x >= 0 and y >= 0 and w >= 1 and h >= 1
        assert x + w <= image['width'] and y + h <= image['height']
        mask = coco.annToMask(entry).astype(bool)
        assert entry['area'] == mask.sum()
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert (x, y, x + w, y + h) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


@pytest.mark.slow
def test_the_seed_decides(shapes, tmp_path):
    small = dict(train=3, val=2)
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        make_shapes(tmp_path / name, **small, seed=seed)
    assert digest(tmp_path / 'a') == digest(tmp_path / 'b')
    a, c = digest(tmp_path / 'a'), digest(tmp_path / 'c')
    assert a.keys() == c.keys() and not any(a[name] == c[name] for name in a)
    # an image depends on its number only, not on how many there are; the splits differ
    first = digest(shapes)
    assert all(a[name] == first[name] for name in a if name.endswith('.jpg'))
    assert a['train/000001.jpg'] != a['val/000001.jpg']


def test_leaves_its_own_folder_alone(tmp_path):
    folder = tmp_path / 'set'
    assert make_shapes(folder, 2, 1)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob('*')}
    assert not make_shapes(folder, 2, 1)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob('*')}
    with pytest.raises(ShapesError, match='another set of shapes.*seed'):
        make_shapes(folder, 2, 1, seed=1)
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize('content', [{}, {'notes.txt': 'mine'}])
def test_refuses_a_folder_it_did_not_make(tmp_path, content):
    folder = tmp_path / 'set'
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text)
    with pytest.raises(ShapesError, match='was not made by this command.*name another folder'):
        make_shapes(folder, 1, 1)
    assert {path.name: path.read_text() for path in folder.iterdir()} == content
