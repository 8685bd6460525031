_base_ = ['mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py', '_base_/gmconv.py']

# Not in the paper: Table III's GMConv row as S-GMConv, every mask static.
model = dict(
    backbone=dict(
        type='GMResNet',
        gm_stem='static',
        gm_stages=(True, True, True, True),
        init_cfg=dict(type='GMPretrained', checkpoint=_base_.pretrained)))
