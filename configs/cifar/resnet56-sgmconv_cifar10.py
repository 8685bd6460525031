_base_ = './resnet56_cifar10.py'
model = dict(backbone=dict(gm_stem='static', gm_body='static'))
