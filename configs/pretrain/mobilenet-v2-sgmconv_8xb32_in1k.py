_base_ = './mobilenet-v2_8xb32_in1k.py'
model = dict(backbone=dict(gm_stem='static', gm_body='static'))
