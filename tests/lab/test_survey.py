import json
from importlib.util import find_spec

import pytest

from gmconv_mmdet.lab.survey import (
    registered_backbones,
    survey_backbones,
    survey_configs,
    survey_networks,
)
from gmconv_mmdet.lab.survey_families import families_table, survey_families


def test_registry_holds_mmdets_backbones_and_ours():
    names = registered_backbones()
    assert {'ResNet', 'SwinTransformer', 'HourglassNet', 'GMResNet'} <= set(names)
    assert 'FPN' not in names


@pytest.mark.nightly
def test_every_registered_backbone_is_analysed_or_refused_with_a_reason():
    rows = {row.name: row for row in survey_backbones((256, 320))}
    assert sorted(rows) == registered_backbones()
    for name, row in rows.items():
        assert row.report is not None or len(row.reason) > 20, name
    # the stack's own: none is refused
    assert [name for name, row in rows.items() if row.report is None] == []
    for row in rows.values():
        for output in row.report.outputs:
            assert 0 < output.r_min[0] <= output.r_max[0] < float('inf')


STOCK = ['faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 'yolox/yolox_s_8xb8-300e_coco.py',
         'rtmdet/rtmdet_s_8xb32-300e_coco.py', 'ssd/ssd300_coco.py',
         'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py', 'pvt/retinanet_pvtv2-b0_fpn_1x_coco.py',
         'dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py', 'detr/detr_r50_8xb2-150e_coco.py',
         'hrnet/faster-rcnn_hrnetv2p-w18-1x_coco.py', 'yolo/yolov3_d53_8xb8-ms-608-273e_coco.py',
         'detectors/detectors_cascade-rcnn_r50_1x_coco.py',
         'cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco.py']


@pytest.mark.slow
@pytest.mark.parametrize('stock', [STOCK[:3], pytest.param(STOCK, marks=pytest.mark.nightly)],
                         ids=['few', 'all'])
def test_stock_configs_of_all_families(stock):
    from pathlib import Path

    import mmdet
    shipped = Path(mmdet.__file__).parent / '.mim' / 'configs'
    rows = list(survey_configs([shipped / name for name in stock], (256, 320)))
    assert [row.reason for row in rows] == [''] * len(stock)
    assert [o.r_max for o in rows[0].report.outputs] == [(r, r) for r in (459, 459, 459, 491, 491)]


@pytest.mark.nightly
def test_all_our_configs(repo):
    absent = set() if find_spec('mmseg') else {'segmentation'}
    configs = sorted(p for p in (repo / 'configs').rglob('*.py')
                     if not {'_base_', *absent} & set(p.parts))
    assert configs
    for row in survey_configs(configs, (256, 320)):
        assert row.report is not None and row.reason == '', (row.name, row.reason)


def test_other_libraries():
    rows = list(survey_networks(['torchvision::resnet18', 'torchvision::resnet19', 'keras::vgg'],
                                (64, 64)))
    assert rows[0].report.max_size == (435, 435) and len(rows[0].report.unproductive) == 1
    assert rows[1].report is None and 'resnet19' in rows[1].reason
    assert 'none of torchvision::, timm::' in rows[2].reason


def test_families(repo):
    """A row as the page's data have it."""
    row, = survey_families({'VGG': ['torchvision::vgg11']})
    assert row['as_is']['min_size'] == (150, 150) and row['changed']['min_size'] == (134, 134)
    assert row['change'] == 'no-features.20' and not row['recommended']
    kept = json.loads((repo / 'docs/data/receptive_fields/families.json').read_text())
    assert json.loads(json.dumps(row)) == kept[0]
    page = (repo / 'docs/receptive_field_analysis.md').read_text()
    assert families_table(kept) in page
