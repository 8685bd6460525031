# Fig. 6: another initial sigma than 5.
_base_ = './resnet20-sgmconv_cifar100.py'
model = dict(backbone=dict(gm_cfg=dict(init_sigma=1)))
