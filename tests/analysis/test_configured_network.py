import pytest
import torch
from mmengine.config import Config

from gmconv_mmdet.analysis.configured_network import (analyze_config, build_extractor,
                                                      configured_scale, configured_size,
                                                      find_detector, load_weights, roi_assignment,
                                                      without_weights)

PIPELINES = [
    (dict(type='Resize', scale=(1333, 800), keep_ratio=True), 32, ((1333, 800), True), (800, 1344)),
    (dict(type='mmdet.FixShapeResize', scale=(300, 200)), 1, ((300, 200), False), (200, 300)),
    (dict(type='CenterCrop', crop_size=224), 1, ((224, 224), False), (224, 224)),
    (dict(type='TestTimeAug',
          transforms=[[dict(type='Resize', scale=(640, 640), keep_ratio=True)]]),
     32, ((640, 640), True), (640, 640)),
    (dict(type='Resize', scale_factor=1.0), 1, ((511, 500), False), (500, 511))]


def detector(**backbone):
    return dict(type='FasterRCNN', data_preprocessor=dict(pad_size_divisor=32), backbone=dict(
        type='ResNet', depth=18, base_channels=8, **backbone), neck=dict(
        type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=5))


@pytest.mark.parametrize('step, divisor, scale, size', PIPELINES)
def test_size_from_the_test_pipeline(step, divisor, scale, size):
    model = detector()
    model['data_preprocessor']['pad_size_divisor'] = divisor
    # The training pipeline's crop counts only where the test pipeline names no size.
    train = [dict(type='Resize', scale=9), dict(type='RandomCrop', crop_size=(511, 500))]
    cfg = Config(dict(model=model, train_pipeline=train, test_dataloader=dict(dataset=dict(
        type='RepeatDataset', dataset=dict(pipeline=[dict(type='LoadImageFromFile'), step])))))
    assert configured_scale(cfg) == scale
    assert configured_size(cfg) == size


def test_pipeline_on_the_top_level():
    cfg = Config(dict(model=dict(detector()), test_pipeline=[dict(PIPELINES[0][0])]))
    assert configured_size(cfg) == (800, 1344)


def test_no_size():
    cfg = Config(dict(model=detector(), test_pipeline=[dict(type='LoadImageFromFile')]))
    assert configured_scale(cfg) is None and configured_size(cfg) is None


def test_last_step_counts():
    cfg = Config(dict(model=dict(backbone={}), test_pipeline=[
        dict(type='ResizeEdge', scale=256), dict(type='CenterCrop', crop_size=224)]))
    assert configured_size(cfg) == (224, 224)


def test_detector_inside_another_model():
    cfg = Config(dict(model=dict(type='SoftTeacher', detector=detector())))
    assert find_detector(cfg.model)[0] == ('detector',)
    with pytest.raises(ValueError, match='no model with a backbone'):
        find_detector(dict(type='Nothing', head=dict(type='Head')))


def test_nothing_is_downloaded():
    cfg = detector(init_cfg=dict(type='Pretrained', checkpoint='https://localhost/none.pth'))
    assert 'init_cfg' not in without_weights(cfg)['backbone'] and 'init_cfg' in cfg['backbone']
    assert build_extractor(Config(dict(model=cfg))) is not None


def test_backbone_alone_where_the_neck_is_refused():
    model = detector()
    model['neck'] = [model['neck'], dict(type='DyHead', in_channels=16, out_channels=16)]
    model['neck'][0]['out_channels'] = 16
    report, note = analyze_config(Config(dict(model=model)), (128, 128))
    assert [o.r_max for o in report.outputs] == [(43, 43), (99, 99), (211, 211), (435, 435)]
    assert 'the neck is refused' in note and 'offsets are a map' in note


def test_trained_masks_come_from_a_checkpoint(tmp_path):
    model = detector()
    model['backbone'].update(type='GMResNet', gm_stem='static', gm_stages=(False,) * 4)
    cfg = Config(dict(model=model))
    network = build_extractor(cfg)
    network.backbone.conv1.sigma.data.fill_(0.05)
    path = tmp_path / 'trained.pth'
    torch.save(dict(state_dict=network.state_dict(), meta={}), path)
    untrained, _ = analyze_config(cfg, (64, 64))
    trained, note = analyze_config(cfg, (64, 64), str(path))
    assert trained.layers['backbone.conv1'].r_max == (7, 7)
    assert trained.layers['backbone.conv1'].r_effective == pytest.approx((1, 1))
    assert untrained.layers['backbone.conv1'].r_effective[0] > 6
    assert f'{len(network.state_dict())} of {len(network.state_dict())} tensors' in note


def test_foreign_checkpoints_are_refused(tmp_path):
    network = build_extractor(Config(dict(model=detector())))
    torch.save({'other.weight': torch.ones(2)}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='no weight of this backbone'):
        load_weights(network, str(tmp_path / 'other.pth'))
    torch.save({'backbone.conv1.weight': torch.ones(2)}, tmp_path / 'shape.pth')
    with pytest.raises(ValueError, match=r'\(2,\)'):
        load_weights(network, str(tmp_path / 'shape.pth'))


def test_roi_assignment():
    head = dict(bbox_roi_extractor=dict(featmap_strides=[4, 8, 16, 32], finest_scale=28))
    cfg = Config(dict(model=dict(detector(), roi_head=head)))
    assert roi_assignment(cfg) == (4, 28)
    assert roi_assignment(Config(dict(model=detector()))) == (None, 56)
