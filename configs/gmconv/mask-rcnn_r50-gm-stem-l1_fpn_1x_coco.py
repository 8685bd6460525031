_base_ = ['mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', '_base_/gmconv.py']

# Not in the paper: the backbone of Table V's stem-L1 row in another detector.
model = dict(
    backbone=dict(
        type='GMResNet',
        gm_stem='dynamic',
        gm_stages=(True, False, False, False),
        init_cfg=dict(type='GMPretrained', checkpoint=_base_.pretrained)))
