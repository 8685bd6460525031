# Beyond the paper: DINO with the masks of Table V's stem-L1 row. It sees stage 2 to 4: L1 acts on them
# from below.
_base_ = ['mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py', '../gmconv/_base_/gmconv.py']

model = dict(
    backbone=dict(
        type='GMResNet',
        gm_stem='dynamic',
        gm_stages=(True, False, False, False),
        init_cfg=dict(type='GMPretrained', checkpoint=_base_.pretrained)))

# DINO's backbone learns at a tenth of the rate. Masks at the full one, without weight decay; of the
# keys that match MMEngine takes the longest, so that plain `sigma` would lose to DINO's `backbone`.
masks = dict(lr_mult=1, decay_mult=0)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={
    'conv1.sigma_predictor': masks, 'conv2.sigma': masks}))
