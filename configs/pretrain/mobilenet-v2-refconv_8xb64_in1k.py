# RefConv in every convolution larger than 1x1, on top of the trained plain network.
_base_ = './mobilenet-v2-continued_8xb64_in1k.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='RefConvBackbone',
        backbone=dict(type='mmpretrain.MobileNetV2', widen_factor=1.0)))
