"""Configs of folded models: mmdet's own types, and nothing of ours unless something of ours is
left."""
import copy

import pytest
from mmengine.config import Config

from gmconv_mmdet.deploy.plain_config import folded_config, names_in, our_names

IMPORTS = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)


def config(backbone, **further):
    return Config(dict(model=dict(type='RetinaNet', backbone=backbone, neck=dict(type='FPN')),
                       custom_imports=copy.deepcopy(IMPORTS), **further))


@pytest.mark.parametrize('prefix', ['', 'mmdet.'])
def test_gm_resnet_becomes_resnet(prefix):
    cfg = config(dict(type=f'{prefix}GMResNet', depth=50, gm_stem='static',
                      gm_cfg=dict(init_sigma=3), gm_stages=(True, ) * 4, freeze_masks=True, norm_eval=True,
                      init_cfg=dict(type='GMPretrained', checkpoint='x.pth')))
    before = cfg.to_dict()
    folded = folded_config(cfg, keep_dynamic=False)
    assert cfg.to_dict() == before
    assert folded.model.backbone.to_dict() == dict(type=f'{prefix}ResNet', depth=50, norm_eval=True,
                                                   init_cfg=None)
    assert 'custom_imports' not in folded and not our_names() & set(names_in(folded.to_dict()))


@pytest.mark.parametrize('keep_dynamic', [False, True])
def test_refocused_kernels_leave_nothing(keep_dynamic):
    inner = dict(type='ResNeXt', depth=50)
    cfg = config(dict(type='RefConvBackbone', body=['layer2'], ref_cfg=dict(init='identity'),
                      backbone=inner))
    folded = folded_config(cfg, keep_dynamic)
    assert folded.model.backbone.to_dict() == inner and 'custom_imports' not in folded
    layer = Config(dict(model=dict(type='FPN', conv_cfg=dict(type='RefConv', map_kernel_size=3))))
    assert folded_config(layer, keep_dynamic).model.conv_cfg.to_dict() == dict(type='Conv2d')


def test_a_dynamic_stem_keeps_gm_resnet():
    cfg = config(dict(type='GMResNet', depth=50, num_stages=3, gm_stages=(True, ) * 3,
                      gm_cfg=dict(sigma_pattern='sigma')))
    folded = folded_config(cfg, keep_dynamic=True)
    assert folded.model.backbone.to_dict() == dict(
        type='GMResNet', depth=50, num_stages=3, gm_stages=(False, ) * 3,
        gm_cfg=dict(sigma_pattern='sigma'))
    assert folded.custom_imports.to_dict() == IMPORTS


@pytest.mark.parametrize('init_cfg', [None, dict(type='Pretrained', checkpoint='x.pth')])
def test_gm_backbone_becomes_the_backbone_within(init_cfg):
    inner = dict(type='ResNeXt', depth=50, groups=32, base_width=4)
    ref = config(dict(type='RefConvBackbone', backbone=inner, init_cfg=init_cfg))
    cfg = config(dict(type='GMBackbone', backbone=inner, init_cfg=init_cfg))
    folded = folded_config(cfg, keep_dynamic=False)
    assert folded.model.backbone.to_dict() == dict(
        inner, **({'init_cfg': init_cfg} if init_cfg else {}))
    assert folded_config(ref, keep_dynamic=False).model == folded.model
    kept = folded_config(cfg, keep_dynamic=True).model.backbone
    assert kept.type == 'GMBackbone' and kept.gm_body is None and kept.backbone.to_dict() == inner


def test_gm_backbone_as_drop_in_becomes_its_base():
    plain = dict(deepen_factor=0.33, init_cfg=dict(type='Kaiming'))
    cfg = config(dict(type='GMBackbone', base='mmdet.CSPDarknet', gm_body=['stage1'], gm_cfg=dict(
        init_sigma=3), freeze_masks=True, **plain))
    folded = folded_config(cfg, keep_dynamic=False)
    assert folded.model.backbone.to_dict() == dict(type='mmdet.CSPDarknet', **plain)
    assert 'custom_imports' not in folded
    kept = folded_config(cfg, keep_dynamic=True).model.backbone
    assert kept.base == 'mmdet.CSPDarknet' and kept.gm_body is None and kept.deepen_factor == 0.33


def test_conv_cfg():
    neck = dict(type='FPN', conv_cfg=dict(type='GMConv', init_sigma=2))
    head = dict(type='RetinaHead', conv_cfg=dict(type='GMConv', dynamic=True))
    cfg = Config(dict(model=dict(type='RetinaNet', backbone=dict(type='ResNet', depth=18),
                                 neck=neck, bbox_head=head)))
    assert folded_config(cfg, False).model.neck.conv_cfg.to_dict() == dict(type='Conv2d')
    assert folded_config(cfg, False).model.bbox_head.conv_cfg.to_dict() == dict(type='Conv2d')
    assert folded_config(cfg, True).model.bbox_head.conv_cfg.to_dict() == head['conv_cfg']


def test_the_rest_of_a_config():
    cfg = config(
        dict(type='GMResNet', depth=18, gm_stem='static'),
        custom_hooks=[dict(type='FoldGMConvHook'), dict(type='EMAHook'), dict(type='SigmaLogHook')],
        val_evaluator=[dict(type='FastCocoMetric', ann_file='a.json', metric='bbox')],
        init_cfg=[dict(type='GMPretrained', checkpoint='x'), dict(type='Kaiming')])
    cfg.custom_imports.imports = ['gmconv_mmdet.hooks', 'mine']
    folded = folded_config(cfg, keep_dynamic=False)
    assert [hook.type for hook in folded.custom_hooks] == ['EMAHook']
    assert folded.val_evaluator[0].to_dict() == dict(type='mmdet.CocoMetric', ann_file='a.json',
                                                     metric='bbox')
    assert [init.type for init in folded.init_cfg] == ['Kaiming']
    assert folded.custom_imports.imports == ['mine']


def test_other_types_of_ours_keep_the_import():
    assert {'GMConv', 'GMResNet', 'GMBackbone', 'RefConvBackbone', 'GMPretrained',
            'FoldGMConvHook'} <= our_names()
    cfg = config(dict(type='GMResNet', depth=18, gm_stem='static'),
                 other=[dict(model=dict(type='CifarResNet'))])
    folded = folded_config(cfg, keep_dynamic=False)
    assert folded.model.backbone.type == 'ResNet' and folded.custom_imports.to_dict() == IMPORTS
