_base_ = './_base_/in1k.py'
# mmpretrain's AlexNet holds its classifier itself.
model = dict(
    backbone=dict(
        type='GMBackbone',
        gm_stem=None,
        gm_body=None,
        backbone=dict(type='mmpretrain.AlexNet', num_classes=1000)),
    neck=None,
    head=dict(
        _delete_=True,
        type='ClsHead',
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5)))
optim_wrapper = dict(optimizer=dict(lr=0.01))
