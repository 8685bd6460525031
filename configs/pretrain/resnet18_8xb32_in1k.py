_base_ = './_base_/in1k.py'
# mmdet's ResNet, so that the backbone drops into a detector.
model = dict(
    backbone=dict(
        type='mmdet.GMResNet',
        depth=18,
        gm_stem=None,
        gm_stages=(False, False, False, False),
        out_indices=(3, ),
        norm_eval=False,
        zero_init_residual=False),
    head=dict(in_channels=512))
