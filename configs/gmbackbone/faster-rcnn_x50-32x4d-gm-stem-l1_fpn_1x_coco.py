# Not in the paper: ResNeXt-50 (32x4d) with the masks of Table V's stem-L1 row.
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)
custom_hooks = [
    dict(type='SigmaLogHook'), dict(type='SafeCheckpoints'), dict(type='ExactResumeHook')
]
randomness = dict(seed=0)  # ExactResumeHook needs a fixed one

model = dict(
    backbone=dict(
        _delete_=True,
        type='GMBackbone',
        gm_stem='dynamic',
        gm_body=['layer1'],
        init_cfg=dict(
            type='GMPretrained',
            checkpoint='{{$GMCONV_PRETRAINED_X50:torchvision://resnext50_32x4d}}'),
        backbone=dict(
            type='ResNeXt',
            depth=50,
            groups=32,
            base_width=4,
            num_stages=4,
            out_indices=(0, 1, 2, 3),
            frozen_stages=1,
            norm_cfg=dict(type='BN', requires_grad=True),
            norm_eval=True,
            style='pytorch')))
