import json
import subprocess
import sys

import numpy as np
import pytest

from gmconv_mmdet.evaluation.compare import plausible_detections, repeat_images


@pytest.fixture(scope='module')
def annotations_file(shared_data):
    return shared_data / 'coco128' / 'annotations' / 'instances_val.json'


def test_repeated_images_are_new_images_with_their_own_boxes(annotations_file):
    given = json.loads(annotations_file.read_text())
    repeated = repeat_images(given, 40)
    assert [image['id'] for image in repeated['images']] == list(range(1, 41))
    ids = [annotation['id'] for annotation in repeated['annotations']]
    assert ids == list(range(1, len(ids) + 1))
    first = [a['bbox'] for a in given['annotations'] if a['image_id'] == given['images'][0]['id']]
    for image in (1, 33):  # 32 images, then the first again
        assert [a['bbox'] for a in repeated['annotations'] if a['image_id'] == image] == first


def test_detections_are_reproducible_and_complete(annotations_file):
    given = json.loads(annotations_file.read_text())
    one, other = (plausible_detections(given, np.random.default_rng(7), 12) for _ in range(2))
    assert one == other and len(one) == 12 * len(given['images'])
    assert all(0 <= d['score'] <= 1 and min(d['bbox']) >= 0 for d in one)


@pytest.mark.slow
def test_tool_prints_equal_numbers_and_a_ratio(repo, annotations_file):
    pytest.importorskip('faster_coco_eval')
    done = subprocess.run([sys.executable, str(repo / 'tools' / 'compare_coco_eval.py'),
                           str(annotations_file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1].split()
    assert last[:2] == ['largest', 'difference'] and float(last[2].rstrip(';')) < 1e-12
