model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='GMBackbone',
        gm_stem=None,
        gm_body=None,
        backbone=dict(type='CifarResNet', depth=20)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0)))
