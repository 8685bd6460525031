_base_ = [
    '_base_/resnet18.py',
    '_base_/cifar10_packed.py',
    '_base_/schedule_200e.py',
]
