_base_ = '_base_/faster-rcnn_r18-half_fpn_deeppcb.py'

# Dynamic stem, static masks in L1.
model = dict(
    backbone=dict(type='GMResNet', gm_stem='dynamic', gm_stages=(True, False, False, False)))
