# A rehearsal without ImageNet: the same network and recipe on CIFAR-10 enlarged to 64x64, one
# epoch. Its backbone loads into a detector; its accuracy says nothing.
_base_ = './resnet18-gmconv_8xb32_in1k.py'
custom_imports = dict(
    imports=['gmconv_mmdet', 'gmconv_mmdet.datasets.packed_cifar'], allow_failed_imports=False)
packed = '{{$CIFAR10_PACKED:data/cifar10_packed}}'
model = dict(
    data_preprocessor=dict(
        num_classes=10,
        mean=[125.307, 122.961, 113.8575],
        std=[51.5865, 50.847, 51.255],
        to_rgb=False),
    head=dict(num_classes=10, topk=(1, )))
enlarge = dict(type='Resize', scale=(64, 64))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='PackedCIFAR',
        data_root=packed,
        ann_file='cifar10_train.npz',
        pipeline=[enlarge, dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]))
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='PackedCIFAR',
        data_root=packed,
        ann_file='cifar10_test.npz',
        pipeline=[enlarge, dict(type='PackInputs')]))
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1, ))
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = dict(_delete_=True, type='ConstantLR', factor=1.0)
train_cfg = dict(max_epochs=1)
