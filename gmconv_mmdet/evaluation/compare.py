"""pycocotools and faster-coco-eval on the same detections: their twelve numbers and their times."""
from __future__ import annotations

import contextlib
import copy
import io
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from mmdet.datasets.api_wrappers import COCO, COCOeval

from .fast_coco_metric import faster_coco_eval

NAMES = ('AP', 'AP50', 'AP75', 'APS', 'APM', 'APL', 'AR100', 'AR300', 'AR1000', 'ARS', 'ARM', 'ARL')
_MAX_DETECTIONS = [100, 300, 1000]  # mmdet's


class Comparison(NamedTuple):
    """Both ways on the same data."""
    pycocotools: np.ndarray  # (12,), float64, in the order of NAMES
    faster: np.ndarray
    pycocotools_seconds: float  # of evaluate, accumulate and summarize
    faster_seconds: float

    @property
    def ratio(self) -> float:
        """How many times longer pycocotools takes."""
        return self.pycocotools_seconds / self.faster_seconds

    @property
    def largest_difference(self) -> float:
        """Between two numbers of one name. Sums in another order differ in the last bits."""
        return float(np.abs(self.pycocotools - self.faster).max())

    def text(self) -> str:
        lines = [f'{"":7}pycocotools  faster-coco-eval']
        lines += [f'{name:7}{a:11.6f}  {b:16.6f}' for name, a, b in zip(
            NAMES, self.pycocotools, self.faster, strict=True)]
        lines += [f'{"time":7}{self.pycocotools_seconds:9.2f} s  {self.faster_seconds:14.2f} s',
                  f'largest difference {self.largest_difference:.1e}; pycocotools takes '
                  f'{self.ratio:.1f} times as long']
        return '\n'.join(lines)


def repeat_images(annotations: dict, images: int) -> dict:
    """A COCO annotation dict with ``images`` images: the given ones over and over, with new ids."""
    sources = annotations['images']
    by_image = {image['id']: [] for image in sources}
    for annotation in annotations['annotations']:
        by_image[annotation['image_id']].append(annotation)
    result = dict(categories=annotations['categories'], images=[], annotations=[])
    for i in range(images):
        source = sources[i % len(sources)]
        result['images'].append(dict(source, id=i + 1))
        for annotation in by_image[source['id']]:
            result['annotations'].append(dict(annotation, image_id=i + 1,
                                              id=len(result['annotations']) + 1))
    return result


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


def compare(annotations: dict, detections: list[dict]) -> Comparison:
    """Evaluate boxes both ways, with mmdet's limits on detections.

    Args:
        annotations (dict): in COCO's format.
        detections (list[dict]): in COCO's result format, at least one.
    """
    stats, seconds = [], []
    for evaluator in (COCOeval, faster_coco_eval()):
        with contextlib.redirect_stdout(io.StringIO()):
            result = _evaluate(evaluator, annotations, detections)
        stats.append(np.asarray(result[0], dtype=float)[:len(NAMES)])
        seconds.append(result[1])
    return Comparison(*stats, *seconds)


def _evaluate(evaluator: Callable, annotations: dict,
              detections: list[dict]) -> tuple[np.ndarray, float]:
    truth = COCO()
    truth.dataset = copy.deepcopy(annotations)  # evaluators write into it
    truth.createIndex()
    found = truth.loadRes(copy.deepcopy(detections))
    evaluation = evaluator(truth, found, 'bbox')
    evaluation.params.maxDets = list(_MAX_DETECTIONS)
    begun = time.perf_counter()
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats, time.perf_counter() - begun
