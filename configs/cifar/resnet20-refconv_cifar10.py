# RefConv on top of the plain network, trained the same way once more. Not in the paper on GMConv.
_base_ = './resnet20_cifar10.py'
load_from = '{{$REFCONV_BASIS:work_dirs/resnet20_cifar10/epoch_160.pth}}'
model = dict(
    backbone=dict(
        _delete_=True,
        type='RefConvBackbone',
        backbone=dict(type='CifarResNet', depth=20)))
