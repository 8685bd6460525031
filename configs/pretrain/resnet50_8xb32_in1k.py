_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    'mmpretrain::_base_/default_runtime.py',
    '_base_/in1k.py',
]
# mmdet's ResNet, so that the backbone drops into a detector.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmdet.GMResNet',
        depth=50,
        gm_stem=None,
        gm_stages=(False, False, False, False),
        out_indices=(3, ),
        norm_eval=False,
        zero_init_residual=False),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=2048,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5)))
