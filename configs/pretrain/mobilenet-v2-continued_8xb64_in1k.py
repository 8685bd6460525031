_base_ = './resnet18-continued_8xb64_in1k.py'
load_from = '{{$REFCONV_BASIS:work_dirs/mobilenet-v2_8xb32_in1k/epoch_300.pth}}'
model = dict(
    backbone=dict(
        _delete_=True,
        type='GMBackbone',
        gm_stem=None,
        gm_body=None,
        backbone=dict(type='mmpretrain.MobileNetV2', widen_factor=1.0)),
    head=dict(in_channels=1280))
