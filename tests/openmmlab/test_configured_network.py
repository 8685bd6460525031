import pytest
import torch
from mmengine.config import Config

from gmconv_mmdet.openmmlab.config_file import find_detector, without_weights
from gmconv_mmdet.openmmlab.configured_network import build_extractor, load_weights
from gmconv_mmdet.receptive_field.analyze_config import analyze_config

from ..detector_config import detector


def test_detector_inside_another_model():
    cfg = Config(dict(model=dict(type='SoftTeacher', detector=detector())))
    assert find_detector(cfg.model)[0] == ('detector',)
    with pytest.raises(ValueError, match='no model with a backbone'):
        find_detector(dict(type='Nothing', head=dict(type='Head')))


def test_nothing_is_downloaded():
    cfg = detector(init_cfg=dict(type='Pretrained', checkpoint='https://localhost/none.pth'))
    assert 'init_cfg' not in without_weights(cfg)['backbone'] and 'init_cfg' in cfg['backbone']
    assert build_extractor(Config(dict(model=cfg))) is not None


@pytest.mark.slow
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
