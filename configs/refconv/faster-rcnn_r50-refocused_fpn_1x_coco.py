# RefConv on top of a trained plain detector, trained 1x more; neck and heads train as they are.
_base_ = './faster-rcnn_r50-refconv_fpn_1x_coco.py'
load_from = '{{$REFCONV_DETECTOR:work_dirs/faster-rcnn_r50_fpn_1x_coco/epoch_12.pth}}'
model = dict(backbone=dict(backbone=dict(init_cfg=None)))
