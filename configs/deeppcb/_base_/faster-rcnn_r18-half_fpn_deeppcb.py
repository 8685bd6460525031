# Faster R-CNN with a half-width ResNet-18 on DeepPCB (Tang et al. 2019): circuit boards with 6
# kinds of small defects, 1,000 images to train on and 500 to test, of 640 x 640. From scratch,
# sized for one CPU thread: 320 pixels, 8 epochs of 125 iterations, few sampled boxes.
#
# The data are looked for in $GMCONV_SHARED_DATA/deeppcb (annotations/, images/), else in
# data/deeppcb. --cfg-options data_root=... comes too late for what is made from it here: set the
# environment variable.
_base_ = ['mmdet::_base_/models/faster-rcnn_r50_fpn.py', 'mmdet::_base_/default_runtime.py']

custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)

data_root = '{{$GMCONV_SHARED_DATA:data}}/deeppcb/'
metainfo = dict(classes=('open', 'short', 'mousebite', 'spur', 'copper', 'pin-hole'))
scale = (320, 320)

# The backbone is each config's own.
model = dict(
    # Of the black and white images. A dynamic stem needs a normalised input.
    data_preprocessor=dict(mean=[169., 169., 169.], std=[118., 118., 118.]),
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=18,
        base_channels=32,
        frozen_stages=-1,  # from scratch: nothing may be frozen, batch statistics included
        norm_eval=False,
        style='pytorch'),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=32, num_outs=4),
    # Half of the defects are smaller than 17 pixels at this scale: anchors of 16 on stride 4.
    rpn_head=dict(in_channels=32, feat_channels=32,
                  anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32, finest_scale=28,
                                roi_layer=dict(sampling_ratio=2)),
        bbox_head=dict(in_channels=32, fc_out_channels=256, num_classes=6,
                       reg_class_agnostic=True)),
    # A tenth of mmdet's samples: there are seven defects in an image, and pooling the boxes and its
    # backward pass is what a CPU spends much of its time on.
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=300, max_per_img=100),
        rcnn=dict(sampler=dict(num=48, pos_fraction=0.33))),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=100), rcnn=dict(max_per_img=50)))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5, direction=['horizontal', 'vertical']),
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
    batch_size=8,
    num_workers=0,  # decoding takes little; two trainings share two cores
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='images/'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_test.json',
        data_prefix=dict(img='images/'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file=data_root + 'annotations/instances_test.json',
                     metric='bbox')
test_evaluator = val_evaluator

max_epochs = 8
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=4)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# The paper's optimizer and weight decay, masks included.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=35))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=max_epochs, T_max=max_epochs,
         eta_min=2e-4, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
custom_hooks = [
    dict(type='SigmaLogHook', interval=25), dict(type='SafeCheckpoints'),
    dict(type='ExactResumeHook')
]
randomness = dict(seed=0)
