import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmengine.config import Config

from gmconv_mmdet.receptive_field.analyze import FieldSize
from gmconv_mmdet.receptive_field.fpn_assignment import (
    assign_levels,
    boxes_beyond_field,
    resized_boxes,
    roi_assignment,
)

from ..detector_config import detector


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(1, 2000), st.floats(1, 2000)), min_size=1, max_size=30),
       st.integers(1, 5))
def test_levels_are_mmdets(sizes, count):
    extractor = SingleRoIExtractor(dict(type='RoIAlign', output_size=7), 8,
                                   [4 * 2 ** i for i in range(count)])
    boxes = torch.tensor([[0, 0, 0, w, h] for w, h in sizes], dtype=torch.double)
    expected = extractor.map_roi_levels(boxes, count)
    assert assign_levels(np.array(sizes), count).tolist() == expected.tolist()


def test_levels_by_hand():
    sizes = np.array([[10, 10], [111, 111], [112, 112], [56, 448], [224, 223.9], [5000, 5000]])
    assert assign_levels(sizes, 4).tolist() == [0, 0, 1, 1, 1, 3]
    with pytest.raises(ValueError, match='at least 1'):
        assign_levels(sizes, 0)


def annotation_file(tmp_path, boxes):
    content = dict(images=[dict(id=1, width=400, height=300), dict(id=2, width=100, height=200)],
                   annotations=[dict(id=i, image_id=image, bbox=[0, 0, w, h], iscrowd=crowd)
                                for i, (image, w, h, crowd) in enumerate(boxes)], categories=[])
    path = tmp_path / 'instances.json'
    path.write_text(json.dumps(content))
    return path


def test_boxes_are_resized_as_the_images_are(tmp_path):
    path = annotation_file(tmp_path, [(1, 40, 30, 0), (2, 10, 20, 0), (2, 50, 50, 1), (1, 0, 9, 0)])
    # 400 x 300 fits into 1333 x 800 by 8/3; 100 x 200, turned, by 1333/200 = 6.665
    assert resized_boxes(path, (1333, 800)) == pytest.approx(
        np.array([[40 * 8 / 3, 80], [66.65, 133.3]]))
    assert resized_boxes(path, (200, 100), keep_ratio=False) == pytest.approx(
        np.array([[20, 10], [20, 10]]))
    assert resized_boxes(annotation_file(tmp_path, []), (1333, 800)).shape == (0, 2)


@pytest.mark.parametrize('text', ['[]', '{}', 'no json', '{"images": [], "annotations": [{}]}'])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / 'other.json'
    path.write_text(text)
    with pytest.raises(ValueError, match='no COCO annotation file'):
        resized_boxes(path, (1333, 800))


def field(r_max, jump, r_effective=None):
    return FieldSize((1, 1), r_max, r_effective or r_max, (jump, jump), (0., 0.), (False, False),
                     (8, 8), True)


def test_boxes_beyond_their_level():
    levels = [field((100, 60), 4, (50, 30)), field((inf := float('inf'), inf), 8)]
    stages = [field((20, 20), 4)]
    sizes = np.array([[59, 99], [61, 99], [59, 101], [10, 10], [500, 500]])   # w, h
    fine, coarse = boxes_beyond_field(levels, stages, sizes)
    assert (fine.boxes, fine.beyond_field, fine.beyond_stage, fine.beyond_effective) == (4, 2, 3, 3)
    assert (coarse.boxes, coarse.beyond_field, coarse.beyond_stage) == (1, 0, None)


def test_roi_assignment():
    head = dict(bbox_roi_extractor=dict(featmap_strides=[4, 8, 16, 32], finest_scale=28))
    cfg = Config(dict(model=dict(detector(), roi_head=head)))
    assert roi_assignment(cfg) == (4, 28)
    assert roi_assignment(Config(dict(model=detector()))) == (None, 56)
