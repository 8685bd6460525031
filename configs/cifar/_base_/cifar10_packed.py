# CIFAR-10 as two .npz files of JPEG images, see gmconv_mmdet/datasets/packed_cifar.py.
_base_ = './cifar10.py'
custom_imports = dict(
    imports=['gmconv_mmdet', 'gmconv_mmdet.datasets.packed_cifar'], allow_failed_imports=False)
packed = '{{$CIFAR10_PACKED:data/cifar10_packed}}'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='PackedCIFAR',
        data_root=packed,
        ann_file='cifar10_train.npz',
        pipeline=_base_.train_pipeline))
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='PackedCIFAR',
        data_root=packed,
        ann_file='cifar10_test.npz',
        pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
