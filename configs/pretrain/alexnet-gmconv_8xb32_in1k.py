_base_ = './alexnet_8xb32_in1k.py'
model = dict(backbone=dict(gm_stem='dynamic', gm_body='static'))
