_base_ = '_base_/faster-rcnn_r18-half_fpn_deeppcb.py'

# S-GMConv: all masks static.
model = dict(backbone=dict(type='GMResNet', gm_stem='static'))
