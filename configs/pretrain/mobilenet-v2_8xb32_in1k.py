_base_ = './_base_/in1k.py'
model = dict(
    backbone=dict(
        type='GMBackbone',
        gm_stem=None,
        gm_body=None,
        backbone=dict(type='mmpretrain.MobileNetV2', widen_factor=1.0)),
    head=dict(in_channels=1280))
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = dict(
    _delete_=True, type='StepLR', by_epoch=True, step_size=1, gamma=0.98)
train_cfg = dict(max_epochs=300)
