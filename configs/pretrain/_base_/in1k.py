# ImageNet as in section IV-A of the paper: batch 256 on 8 GPUs, SGD with momentum 0.9 and weight
# decay 4e-5, 90 epochs. Learning rate and its steps are the networks' own.
_base_ = ['mmpretrain::_base_/datasets/imagenet_bs32.py', 'mmpretrain::_base_/default_runtime.py']
custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)
model = dict(
    type='ImageClassifier',
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5)))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=4e-5))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[30, 60], gamma=0.1)
train_cfg = dict(by_epoch=True, max_epochs=90, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=256)
custom_hooks = [dict(type='SafeCheckpoints'), dict(type='ExactResumeHook')]
randomness = dict(seed=0)  # ExactResumeHook needs a fixed one
