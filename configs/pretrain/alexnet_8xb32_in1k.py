_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    'mmpretrain::_base_/default_runtime.py',
    '_base_/in1k.py',
]
# mmpretrain's AlexNet holds its classifier itself.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='GMBackbone',
        gm_stem=None,
        gm_body=None,
        backbone=dict(type='mmpretrain.AlexNet', num_classes=1000)),
    neck=None,
    head=dict(type='ClsHead', loss=dict(type='CrossEntropyLoss', loss_weight=1.0), topk=(1, 5)))
optim_wrapper = dict(optimizer=dict(lr=0.01))
