_base_ = ['mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', '_base_/gmconv.py']

# Not in the paper: the backbone of Table V's stem-L1 row in another detector. mmdet's FCOS starts
# from a Caffe ResNet (BGR, strides in the 1x1 convolutions); ours, as the other rows, from
# torchvision's.
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(
        type='GMResNet',
        gm_stem='dynamic',
        gm_stages=(True, False, False, False),
        style='pytorch',
        norm_cfg=dict(requires_grad=True),
        init_cfg=dict(type='GMPretrained', checkpoint=_base_.pretrained)))
