import json
from importlib.util import find_spec

import pytest

from gmconv_mmdet.lab.survey import (
    families_table,
    registered_backbones,
    survey,
    survey_families,
    survey_table,
)


def test_registry_holds_mmdets_backbones_and_ours():
    names = registered_backbones()
    assert {'ResNet', 'SwinTransformer', 'HourglassNet', 'GMResNet'} <= set(names)
    assert 'FPN' not in names


@pytest.mark.nightly
@pytest.mark.parametrize('name', registered_backbones())
def test_every_registered_backbone_is_analysed(name):
    report, reason = survey(name, (256, 320))
    assert report is not None, reason
    for output in report.outputs:
        assert 0 < output.r_min[0] <= output.r_max[0] < float('inf')


STOCK = ['faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 'yolox/yolox_s_8xb8-300e_coco.py',
         'rtmdet/rtmdet_s_8xb32-300e_coco.py', 'ssd/ssd300_coco.py',
         'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py', 'pvt/retinanet_pvtv2-b0_fpn_1x_coco.py',
         'dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py', 'detr/detr_r50_8xb2-150e_coco.py',
         'hrnet/faster-rcnn_hrnetv2p-w18-1x_coco.py', 'yolo/yolov3_d53_8xb8-ms-608-273e_coco.py',
         'detectors/detectors_cascade-rcnn_r50_1x_coco.py',
         'cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco.py']


@pytest.mark.slow
@pytest.mark.parametrize('stock', [*STOCK[:3], *(pytest.param(name, marks=pytest.mark.nightly)
                                                 for name in STOCK[3:])])
def test_stock_configs_of_all_families(stock):
    report, reason = survey(f'mmdet::{stock}', (256, 320))
    assert report is not None and reason == ''
    if stock == STOCK[0]:
        assert [o.r_max for o in report.outputs] == [(r, r) for r in (459, 459, 459, 491, 491)]


@pytest.mark.nightly
def test_all_our_configs(repo):
    absent = set() if find_spec('mmseg') else {'segmentation'}
    configs = sorted(p for p in (repo / 'configs').rglob('*.py')
                     if not {'_base_', *absent} & set(p.parts))
    assert configs
    for path in configs:
        report, reason = survey(str(path), (256, 320))
        assert report is not None and reason == '', (path, reason)


def test_table_of_networks_and_of_what_is_refused():
    table = survey_table(['torchvision::resnet18', 'torchvision::resnet19', 'keras::vgg', 'SSDVGG'],
                         (64, 64)).splitlines()
    assert table[2] == '| `torchvision::resnet18` | 64 | 139 to 435 | 1 | global |'
    assert table[3].startswith('| `SSDVGG` | 64 | ')
    assert 'resnet19' in table[-2] and 'none of torchvision::, timm::' in table[-1]


def test_families(repo):
    """A row as the page's data have it."""
    row, = survey_families({'VGG': ['torchvision::vgg11']})
    assert row['as_is']['min_size'] == (150, 150) and row['changed']['min_size'] == (134, 134)
    assert row['change'] == 'no-features.20' and not row['recommended']
    kept = json.loads((repo / 'docs/data/receptive_fields/families.json').read_text())
    assert json.loads(json.dumps(row)) == kept[0]
    page = (repo / 'docs/receptive_field_analysis.md').read_text()
    assert families_table(kept) in page
