_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    'mmpretrain::_base_/default_runtime.py',
    '_base_/in1k.py',
]
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='GMBackbone',
        gm_stem=None,
        gm_body=None,
        backbone=dict(type='mmpretrain.MobileNetV2', widen_factor=1.0)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=1280,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5)))
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = dict(
    _delete_=True, type='StepLR', by_epoch=True, step_size=1, gamma=0.98)
train_cfg = dict(max_epochs=300)
