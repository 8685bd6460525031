_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)

# The paper's "GMConv" (Tables III and V): dynamic stem, static masks in L1-L4.
model = dict(backbone=dict(type='GMResNet', gm_stem='dynamic', gm_stages=(True, True, True, True)))
