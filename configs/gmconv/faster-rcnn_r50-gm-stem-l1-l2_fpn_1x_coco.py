_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', '_base_/gmconv.py']

# Table V: dynamic stem, static masks in L1-L2.
model = dict(
    backbone=dict(
        type='GMResNet',
        gm_stem='dynamic',
        gm_stages=(True, True, False, False),
        init_cfg=dict(type='GMPretrained', checkpoint=_base_.pretrained)))
