_base_ = './resnet18_8xb32_in1k.py'
model = dict(backbone=dict(gm_stem='dynamic', gm_stages=(True, True, True, True)))
