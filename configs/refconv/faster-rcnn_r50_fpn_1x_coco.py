# The plain baseline: as configs/gmconv's.
_base_ = '../gmconv/faster-rcnn_r50_fpn_1x_coco.py'
