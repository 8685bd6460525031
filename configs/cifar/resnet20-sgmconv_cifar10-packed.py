_base_ = './resnet20_cifar10-packed.py'
model = dict(backbone=dict(gm_stem='static', gm_body='static'))
