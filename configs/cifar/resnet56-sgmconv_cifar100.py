_base_ = './resnet56_cifar100.py'
model = dict(backbone=dict(gm_stem='static', gm_body='static'))
