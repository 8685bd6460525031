# Table IV: what the dynamic stem predicts. Its third pattern, 'sigma_ratio', is the default.
_base_ = './alexnet-gmconv_8xb32_in1k.py'
model = dict(backbone=dict(gm_cfg=dict(sigma_pattern='sigma')))
