# Beyond the paper: YOLOX-tiny with masks, a dynamic one in the stem (Focus and its 3x3 convolution).
_base_ = 'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py'
custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)
custom_hooks = [*_base_.custom_hooks, dict(type='SigmaLogHook'), dict(type='SafeCheckpoints')]

model = dict(
    backbone=dict(
        type='GMBackbone',
        base='CSPDarknet',
        gm_stem='dynamic',
        gm_body='static',
        gm_cfg=dict(input_scale=60)))  # YOLOX does not normalise: pixels of 0 to 255

# Weight decay would take sigmas towards 0 over 300 epochs, whatever the images say.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(sigma=dict(decay_mult=0))))
