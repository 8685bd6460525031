_base_ = ['mmdet::dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py', '_base_/gmconv.py']

# Table V: deformable convolution (v1) in L2-L4, no GMConv.
model = dict(
    backbone=dict(init_cfg=dict(type='GMPretrained', checkpoint=_base_.pretrained)))
