"""The tables of the GMConv paper (arXiv 2302.04544) as data: what its authors report.

None of these figures was measured with this project. Numbers are the paper's, digit by digit, in
the paper's units: per cent for accuracies and AP, millions for parameters.
"""
from __future__ import annotations

from typing import NamedTuple

# What the paper compares a backbone with: else with the plain ResNet-50.
BASELINES = {'r50': 'r50', 'r50-gm-stem-l1-dcn-l2-l4': 'r50-dcn-l2-l4'}
COCO_2017_VAL_IMAGES = 5000
COCO_METRICS = ('AP', 'AP50', 'AP75', 'APS', 'APM', 'APL')


class CifarResult(NamedTuple):
    """A line of Table I: accuracies in per cent, means of three runs."""
    model: str
    method: str  # 'StdConv', 'S-GMConv' or 'GMConv'
    params_m: float  # millions; printed once a model, the same for its three methods
    flops_m: float  # millions; the same
    cifar10: float
    cifar100: float


class ImageNetResult(NamedTuple):
    """A line of Table II: accuracies in per cent, single crop of 224x224."""
    model: str
    method: str
    params_m: float
    flops_g: float
    top1: float
    top5: float


class DetectionResult(NamedTuple):
    """A cell block of Tables III and V: COCO AP in per cent of one detector with one backbone."""
    detector: str  # 'faster-rcnn' or 'cascade-rcnn'
    backbone: str  # the row's name in configs/gmconv
    ap: dict[str, float]  # metric -> value; metrics which a table doesn't print are absent

    @property
    def name(self) -> str:
        return f'{self.detector}_{self.backbone}'

    @property
    def baseline(self) -> str:
        """The name of the row that the paper calls a gain against; a baseline's is its own."""
        return f'{self.detector}_{BASELINES.get(self.backbone, "r50")}'


TABLE_I = (
    CifarResult('ResNet-20', 'StdConv', 0.27, 42, 91.58, 67.03),
    CifarResult('ResNet-20', 'S-GMConv', 0.27, 42, 91.85, 67.67),
    CifarResult('ResNet-20', 'GMConv', 0.27, 42, 91.81, 67.45),
    CifarResult('ResNet-56', 'StdConv', 0.85, 128, 92.86, 69.84),
    CifarResult('ResNet-56', 'S-GMConv', 0.85, 128, 93.16, 70.64),
    CifarResult('ResNet-56', 'GMConv', 0.85, 128, 93.28, 70.65),
    CifarResult('ResNet-18', 'StdConv', 11.22, 558, 95.14, 77.78),
    CifarResult('ResNet-18', 'S-GMConv', 11.22, 558, 95.36, 78.03),
    CifarResult('ResNet-18', 'GMConv', 11.22, 558, 95.36, 78.17),
)

TABLE_II = (
    ImageNetResult('MobileNetV2', 'StdConv', 3.50, 0.327, 71.61, 90.40),
    ImageNetResult('MobileNetV2', 'S-GMConv', 3.50, 0.327, 71.51, 90.24),
    ImageNetResult('MobileNetV2', 'GMConv', 3.50, 0.327, 71.77, 90.29),
    ImageNetResult('ResNet-18', 'StdConv', 11.69, 1.82, 69.77, 89.17),
    ImageNetResult('ResNet-18', 'S-GMConv', 11.69, 1.82, 70.32, 89.41),
    ImageNetResult('ResNet-18', 'GMConv', 11.69, 1.82, 69.97, 89.22),
    ImageNetResult('ResNet-50', 'StdConv', 25.56, 4.13, 75.55, 92.65),
    ImageNetResult('ResNet-50', 'S-GMConv', 25.56, 4.13, 75.85, 92.72),
    ImageNetResult('ResNet-50', 'GMConv', 25.56, 4.13, 76.40, 93.04),
    ImageNetResult('AlexNet', 'StdConv', 61.10, 0.714, 56.40, 79.24),
    ImageNetResult('AlexNet', 'S-GMConv', 61.10, 0.714, 57.22, 79.63),
    ImageNetResult('AlexNet', 'GMConv', 61.10, 0.714, 57.38, 79.68),
)


def _detection(detector: str, backbone: str, metrics: tuple[str, ...],
               *values: float) -> DetectionResult:
    return DetectionResult(detector, backbone, dict(zip(metrics, values)))


# The backbone of Table III's "GMConv" has GMConv in the stem and in L1-L4: its S, M and L are those
# of Table V's last GMConv row.
TABLE_III = tuple(_detection(detector, backbone, COCO_METRICS, *values)
                  for detector, backbone, *values in (
    ('faster-rcnn', 'r50', 37.0, 57.8, 40.1, 21.2, 40.6, 48.3),
    ('faster-rcnn', 'r50-gm-stem-l1-l4', 37.8, 58.6, 40.8, 21.6, 41.8, 48.6),
    ('cascade-rcnn', 'r50', 40.1, 58.4, 43.8, 22.3, 43.4, 53.1),
    ('cascade-rcnn', 'r50-gm-stem-l1-l4', 40.6, 58.8, 44.1, 22.5, 44.2, 53.0),
))

_BY_SIZE = ('AP', 'APS', 'APM', 'APL')
TABLE_V = tuple(_detection(detector, backbone, _BY_SIZE, *values)
                for detector, backbone, *values in (
    ('faster-rcnn', 'r50', 37.0, 21.2, 40.6, 48.3),
    ('faster-rcnn', 'r50-gm-stem-l1', 37.9, 21.7, 42.0, 48.7),
    ('faster-rcnn', 'r50-gm-stem-l1-l2', 37.9, 22.1, 41.9, 48.4),
    ('faster-rcnn', 'r50-gm-stem-l1-l3', 37.8, 22.2, 41.7, 48.5),
    ('faster-rcnn', 'r50-gm-stem-l1-l4', 37.8, 21.6, 41.8, 48.6),
    ('faster-rcnn', 'r50-dcn-l2-l4', 41.1, 23.6, 44.7, 54.9),
    ('faster-rcnn', 'r50-gm-stem-l1-dcn-l2-l4', 41.5, 24.4, 45.4, 54.4),
    ('cascade-rcnn', 'r50', 40.1, 22.3, 43.4, 53.1),
    ('cascade-rcnn', 'r50-gm-stem-l1', 40.6, 22.5, 44.2, 53.0),
    ('cascade-rcnn', 'r50-gm-stem-l1-l2', 40.7, 23.0, 44.3, 52.7),
    ('cascade-rcnn', 'r50-gm-stem-l1-l3', 40.6, 22.5, 44.5, 52.7),
    ('cascade-rcnn', 'r50-gm-stem-l1-l4', 40.6, 22.5, 44.2, 53.0),
    ('cascade-rcnn', 'r50-dcn-l2-l4', 43.3, 24.3, 47.0, 57.8),
    ('cascade-rcnn', 'r50-gm-stem-l1-dcn-l2-l4', 43.8, 25.8, 47.5, 58.3),
))

DETECTION_TABLES = {'III': TABLE_III, 'V': TABLE_V}


def printed_ap(name: str) -> dict[str, float]:
    """What the paper prints for a row, in both tables; empty for what isn't a row."""
    found: dict[str, float] = {}
    for row in (*TABLE_V, *TABLE_III):
        if row.name == name:
            found.update(row.ap)
    return found
