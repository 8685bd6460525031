_base_ = './resnet20_cifar10.py'
model = dict(backbone=dict(gm_stem='dynamic', gm_body='static'))
