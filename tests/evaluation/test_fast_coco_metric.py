from __future__ import annotations

import copy
import json
import sys
from inspect import signature

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from gmconv_mmdet.evaluation import FastCocoMetric
from gmconv_mmdet.evaluation.fast_coco_metric import faster_coco_eval

pytest.importorskip('faster_coco_eval')
TWELVE = ['mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l', 'AR@100', 'AR@300', 'AR@1000',
          'AR_s@1000', 'AR_m@1000', 'AR_l@1000']


def plausible_detections(annotations: dict, rng: np.random.Generator,
                         per_image: int = 100) -> list[dict]:
    """Detections such as a detector's, ``per_image`` an image: the annotated boxes, somewhat off
    and sometimes of another class, and boxes of nothing with low scores. Scores can tie."""
    categories = [category['id'] for category in annotations['categories']]
    boxes = {image['id']: [] for image in annotations['images']}
    for annotation in annotations['annotations']:
        boxes[annotation['image_id']].append(annotation)
    detections = []
    for image in annotations['images']:
        size = np.array([image['width'], image['height']] * 2, dtype=float)
        for i in range(per_image):
            annotated = boxes[image['id']]
            if i < 2 * len(annotated):
                source = annotated[i % len(annotated)]
                box = np.array(source['bbox']) * rng.normal(1, 0.1, 4)
                category = source['category_id'] if rng.random() < 0.9 else rng.choice(categories)
                score = rng.beta(4, 2)
            else:
                corner, extent = rng.random(2) * 0.8, rng.random(2) * 0.2
                box = np.concatenate([corner, extent]) * size
                category, score = rng.choice(categories), rng.beta(1, 6)
            detections.append(dict(image_id=image['id'], category_id=int(category),
                                   bbox=[float(v) for v in np.abs(box)],
                                   score=round(float(score), 3)))
    return detections


@pytest.fixture(scope='module')
def coco128(shared_data):
    path = shared_data / 'coco128' / 'annotations' / 'instances_all.json'
    return path, json.loads(path.read_text())


def evaluate(evaluator, annotations, detections, max_dets):
    truth = COCO()
    truth.dataset = copy.deepcopy(annotations)
    truth.createIndex()
    evaluation = evaluator(truth, truth.loadRes(copy.deepcopy(detections)), 'bbox')
    evaluation.params.maxDets = list(max_dets)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return np.array(evaluation.stats[:12])


def metric_of(cls, path, annotations, detections, **kwargs):
    """What mmdet's metric makes of detections, given as its own data samples."""
    names = [category['name'] for category in annotations['categories']]
    label = {category['id']: i for i, category in enumerate(annotations['categories'])}
    metric = cls(ann_file=str(path), metric='bbox', **kwargs)
    metric.dataset_meta = dict(classes=names)
    found = {image['id']: [] for image in annotations['images']}
    for detection in detections:
        found[detection['image_id']].append(detection)
    for image in annotations['images']:
        own = found[image['id']]
        boxes = torch.tensor([d['bbox'] for d in own], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]  # corners
        metric.process({}, [dict(
            img_id=image['id'], ori_shape=(image['height'], image['width']),
            pred_instances=dict(bboxes=boxes, scores=torch.tensor([d['score'] for d in own]),
                                labels=torch.tensor([label[d['category_id']] for d in own],
                                                    dtype=torch.long)))])
    return metric.evaluate(len(annotations['images']))


@pytest.mark.slow
@pytest.mark.parametrize('max_dets', [
    (1, 10, 100), (100, 300, 1000)])
def test_twelve_numbers_equal_pycocotools_on_coco128(coco128, max_dets):
    _, annotations = coco128
    detections = plausible_detections(annotations, np.random.default_rng(0), per_image=30)
    reference = evaluate(COCOeval, annotations, detections, max_dets)
    assert ((0.01 < reference) & (reference < 0.99)).all(), 'no number is trivial'
    ours = evaluate(faster_coco_eval(), annotations, detections, max_dets)
    np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_metric_equals_mmdets_on_coco128(coco128):
    path, annotations = coco128
    detections = plausible_detections(annotations, np.random.default_rng(2), per_image=30)
    options = dict(metric_items=TWELVE, classwise=True)
    reference = metric_of(CocoMetric, path, annotations, detections, **options)
    ours = metric_of(FastCocoMetric, path, annotations, detections, **options)
    assert {f'coco/bbox_{name}' for name in TWELVE} <= set(reference)
    assert set(ours) == set(reference)
    for name, value in reference.items():  # a class without objects is NaN in both
        assert ours[name] == pytest.approx(value, abs=1e-9, nan_ok=True), name


def test_no_detection_gives_no_metric_as_mmdets(coco128):
    path, annotations = coco128
    assert metric_of(FastCocoMetric, path, annotations, []) == {} == metric_of(
        CocoMetric, path, annotations, [])


def test_registered_and_refuses_mmdets_parallel_evaluation():
    assert METRICS.get('FastCocoMetric') is FastCocoMetric
    if 'use_mp_eval' in signature(CocoMetric.__init__).parameters:  # mmdet 3.2
        with pytest.raises(ValueError, match='use_mp_eval'):
            FastCocoMetric(use_mp_eval=True)


def test_missing_package_is_said_when_the_metric_is_built(monkeypatch):
    monkeypatch.setitem(sys.modules, 'faster_coco_eval', None)
    with pytest.raises(ImportError, match='pip install faster-coco-eval'):
        FastCocoMetric()
