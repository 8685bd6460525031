_base_ = 'mmpretrain::_base_/datasets/cifar10_bs16.py'
custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)
train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=128)
test_dataloader = val_dataloader
