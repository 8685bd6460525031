# RefConv in every convolution larger than 1x1, on top of the trained plain network.
_base_ = './resnet50-continued_8xb64_in1k.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='RefConvBackbone',
        backbone=dict(
            type='mmdet.ResNet',
            depth=50,
            out_indices=(3, ),
            norm_eval=False,
            zero_init_residual=False)))
