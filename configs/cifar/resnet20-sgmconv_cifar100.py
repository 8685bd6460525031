_base_ = './resnet20_cifar100.py'
model = dict(backbone=dict(gm_stem='static', gm_body='static'))
