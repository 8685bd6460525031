# GMConv as the paper's default: dynamic stem, static masks in all stages.
# Beside its plain twin: python tools/reproduce.py run --config THIS --against plain --seeds 0 1 2
_base_ = ['mmdet::_base_/models/faster-rcnn_r50_fpn.py', 'mmdet::_base_/default_runtime.py',
          '_base_/deeppcb.py']

model = dict(
    data_preprocessor=dict(mean=[169., 169., 169.], std=[118., 118., 118.]),
    backbone=dict(
        _delete_=True,
        type='GMResNet',
        depth=18,
        base_channels=32,
        frozen_stages=-1,  # from scratch: nothing may be frozen, batch statistics included
        norm_eval=False,
        style='pytorch'),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, num_outs=4),
    # Defects are 17 pixels at this scale, in the median: anchors of 4 x stride on strides 4 to 32.
    rpn_head=dict(in_channels=64, feat_channels=64,
                  anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, finest_scale=28,
                                roi_layer=dict(sampling_ratio=2)),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=6,
                       reg_class_agnostic=True)),
    # An eighth of mmdet's samples: seven defects an image, and RoIAlign's backward is what a CPU
    # spends its time on.
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=300, max_per_img=100),
        rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=100), rcnn=dict(max_per_img=50)))
