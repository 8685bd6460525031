_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', '_base_/gmconv.py']

# Table V's baseline and Table III's "StdConv": no GMConv.
model = dict(
    backbone=dict(init_cfg=dict(type='GMPretrained', checkpoint=_base_.pretrained)))
