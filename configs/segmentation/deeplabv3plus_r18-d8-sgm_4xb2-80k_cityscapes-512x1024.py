# Beyond the papers' recipes: DeepLabV3+ of mmsegmentation with static masks in its whole backbone,
# which fold into the stock segmentor.
_base_ = 'mmseg::deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py'
custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)
custom_hooks = [dict(type='SigmaLogHook'), dict(type='SafeCheckpoints')]

model = dict(
    pretrained=None,  # mmsegmentation's word for the backbone's start weights; here in init_cfg
    backbone=dict(
        _delete_=True,
        type='GMBackbone',
        gm_stem='static',
        gm_body='static',
        init_cfg=dict(type='GMPretrained', checkpoint='open-mmlab://resnet18_v1c'),
        backbone=_base_.model.backbone))

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(sigma=dict(decay_mult=0))))
