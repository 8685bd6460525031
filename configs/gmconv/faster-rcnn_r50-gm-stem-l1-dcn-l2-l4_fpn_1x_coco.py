_base_ = ['mmdet::dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py', '_base_/gmconv.py']

# Table V: dynamic stem, static masks in L1, deformable convolution (v1) in L2-L4.
model = dict(
    backbone=dict(
        type='GMResNet',
        gm_stem='dynamic',
        gm_stages=(True, False, False, False),
        init_cfg=dict(type='GMPretrained', checkpoint=_base_.pretrained)))
