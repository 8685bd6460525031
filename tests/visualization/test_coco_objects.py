import json

import pytest

from gmconv_mmdet.visualization.coco_objects import BANDS, draw_objects


def write(path, annotations):
    path.write_text(json.dumps(dict(images=[dict(id=i, file_name=f'{i}.jpg') for i in range(5)],
                                    annotations=annotations)))
    return path


def test_objects_by_image(tmp_path):
    file = write(tmp_path / 'a.json', [
        dict(id=1, image_id=0, bbox=[1, 2, 30, 40], area=32**2 - 1),
        dict(id=2, image_id=0, bbox=[1, 2, 30, 40]),  # without area its box's 1200: medium
        dict(id=3, image_id=4, bbox=[0, 0, 200, 200], area=30000, iscrowd=1),
        dict(id=4, image_id=4, bbox=[0, 0, 200, .5], area=100),
        dict(id=5, image_id=4, bbox=[5, 5, 200, 100], area=96**2)])
    drawn = draw_objects(file, 10)
    assert sorted((image, o.annotation, o.band, o.box) for image, items in drawn.items()
                  for o in items) == [('0.jpg', 1, 'small', (1, 2, 31, 42)),
                                      ('0.jpg', 2, 'medium', (1, 2, 31, 42)),
                                      ('4.jpg', 5, 'large', (5, 5, 205, 105))]


def test_a_fixed_draw_from_coco(shared_data):
    file = shared_data / 'coco128' / 'annotations' / 'instances_all.json'
    drawn = draw_objects(file, 20)
    assert drawn == draw_objects(file, 20) != draw_objects(file, 20, seed=1)
    bands = [item.band for items in drawn.values() for item in items]
    assert {band: bands.count(band) for band in BANDS} == dict.fromkeys(BANDS, 20)
    everything = [item.band for items in draw_objects(file, 10**6).values() for item in items]
    # 939 boxes, 10 of them crowds; some of the others may be below a pixel.
    assert 900 < len(everything) <= 929


@pytest.mark.parametrize('content, message', [
    *[(text, 'a.json is no COCO annotation file') for text in
      ('', '[]', '{"images": []}', '{"images": 1, "annotations": 2}')],
    ('{"images": [], "annotations": []}', 'holds no object')])
def test_other_files_are_refused(tmp_path, content, message):
    (tmp_path / 'a.json').write_text(content)
    with pytest.raises(ValueError, match=message):
        draw_objects(tmp_path / 'a.json', 5)
