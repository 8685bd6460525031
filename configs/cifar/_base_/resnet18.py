_base_ = './resnet20.py'
model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True, type='mmpretrain.ResNet_CIFAR', depth=18, zero_init_residual=False)),
    head=dict(in_channels=512))
