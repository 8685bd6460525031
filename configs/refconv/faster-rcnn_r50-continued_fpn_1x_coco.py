# The trained plain detector, trained 1x more: the baseline of the refocused detector.
# `REFCONV_DETECTOR` names its checkpoint.
_base_ = './faster-rcnn_r50_fpn_1x_coco.py'
load_from = '{{$REFCONV_DETECTOR:work_dirs/faster-rcnn_r50_fpn_1x_coco/epoch_12.pth}}'
model = dict(backbone=dict(init_cfg=None))
