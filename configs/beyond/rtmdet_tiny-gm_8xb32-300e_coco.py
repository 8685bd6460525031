# Beyond the paper: RTMDet-tiny with masks. CSPNeXt's 5x5 depthwise kernels are what they shape.
_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)
custom_hooks = [*_base_.custom_hooks, dict(type='SigmaLogHook'), dict(type='SafeCheckpoints')]

model = dict(
    backbone=dict(
        type='GMBackbone',
        base='CSPNeXt',
        gm_stem='dynamic',
        gm_body='static'))

# AdamW's weight decay of 0.05 over 300 epochs would take every sigma to 0, whatever the images say.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(sigma=dict(decay_mult=0))))
