# Faster R-CNN with a half-width GMResNet-18 (stem dynamic, stages static), trained from scratch in
# minutes on two CPU cores. `bash tools/demo.sh` draws the images, trains and evaluates.
_base_ = ['mmdet::_base_/models/faster-rcnn_r50_fpn.py', 'mmdet::_base_/default_runtime.py']

custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)

# Relative to this file, so that mmdet's tools find it from any folder.
data_root = '{{$GMCONV_DEMO_DATA:{{fileDirname}}/../../data/demo_shapes}}/'
metainfo = dict(classes=('disc', 'triangle', 'square', 'star', 'cross'))

model = dict(
    backbone=dict(
        _delete_=True,
        type='GMResNet',
        depth=18,
        base_channels=32,
        frozen_stages=-1,  # from scratch: nothing may be frozen, batch statistics included
        norm_eval=False,
        style='pytorch'),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    # Half of mmdet's sizes, since the images are small.
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, finest_scale=28,
                                roi_layer=dict(sampling_ratio=2)),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=5,
                       reg_class_agnostic=True)),
    # A quarter of mmdet's samples and fewer: there are a handful of objects in an image.
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(sampler=dict(num=64, pos_fraction=0.33))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=200)))

scale = (192, 192)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file=data_root + 'annotations/instances_val.json',
                     metric='bbox')
test_evaluator = val_evaluator

max_epochs = 12
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=6)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    # Without weight decay a sigma moves by its gradient only.
    paramwise_cfg=dict(custom_keys=dict(sigma=dict(decay_mult=0.))),
    clip_grad=dict(max_norm=10))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=60),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=max_epochs, T_max=max_epochs,
         eta_min=1e-5, convert_to_iter_based=True),
]
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(max_keep_ckpts=2))
custom_hooks = [
    dict(type='SigmaLogHook', interval=20), dict(type='SafeCheckpoints'),
    dict(type='ExactResumeHook')
]
randomness = dict(seed=0)
