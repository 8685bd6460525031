# RefConv in DeepLabV3+ of mmsegmentation, on top of the trained plain segmentor: one that mmsegmentation's
# base config left, or the one named by the environment variable. Compare with the plain one trained on
# for equally long.
_base_ = 'mmseg::deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py'
custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)
custom_hooks = [dict(type='SafeCheckpoints')]
load_from = ('{{$REFCONV_SEGMENTOR:'
             'work_dirs/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024/iter_80000.pth}}')

model = dict(
    pretrained=None,
    backbone=dict(_delete_=True, type='RefConvBackbone', backbone=_base_.model.backbone))
