# The plain network of resnet18_8xb32_in1k.py, trained once more by RefConv's schedule: the baseline
# that RefConv has to be compared with. Batch 512, 5 epochs of warm-up, 100 of a cosine
# (arXiv 2310.10563). `REFCONV_BASIS` names the trained classifier to start from.
_base_ = './resnet18_8xb32_in1k.py'
load_from = '{{$REFCONV_BASIS:work_dirs/resnet18_8xb32_in1k/epoch_90.pth}}'
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=5e-6,
        by_epoch=True,
        begin=0,
        end=5,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=100,
        eta_min=5e-7,
        by_epoch=True,
        begin=5,
        end=105,
        convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=105)
auto_scale_lr = dict(base_batch_size=512)
