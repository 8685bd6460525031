_base_ = './resnet56_cifar100.py'
model = dict(backbone=dict(gm_stem='dynamic', gm_body='static'))
