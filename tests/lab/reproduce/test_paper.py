"""Sums that the paper's own text states, and agreement between its tables: a digit typed wrong here
breaks one of them."""

import pytest

from gmconv_mmdet.lab.reproduce.paper import (
    COCO_METRICS,
    TABLE_II,
    TABLE_III,
    TABLE_V,
)


def imagenet(model, method, table=TABLE_II):
    line, = (line for line in table if (line.model, line.method) == (model, method))
    return line.top1


def test_gains_of_the_papers_text():
    # Section IV-B: "increases by 0.16%, 0.2%, 0.85% and 0.98%, respectively"
    for model, gain in (('MobileNetV2', 0.16), ('ResNet-18', 0.2), ('ResNet-50', 0.85),
                        ('AlexNet', 0.98)):
        assert imagenet(model, 'GMConv') - imagenet(model, 'StdConv') == pytest.approx(gain)
    # Section IV-C: baseline 37.0, improvements of 0.8 and 0.5
    ap = {(r.detector, r.backbone): r.ap['AP'] for r in TABLE_III}
    assert ap['faster-rcnn', 'r50'] == 37.0
    for detector, gain in (('faster-rcnn', 0.8), ('cascade-rcnn', 0.5)):
        assert ap[detector, 'r50-gm-stem-l1-l4'] - ap[detector, 'r50'] == pytest.approx(gain)


def test_table_iii_and_v_agree_where_they_meet():
    five = {(r.detector, r.backbone): r.ap for r in TABLE_V}
    for result in TABLE_III:
        assert tuple(result.ap) == COCO_METRICS
        other = five[result.detector, result.backbone]
        assert other == {name: result.ap[name] for name in other}
