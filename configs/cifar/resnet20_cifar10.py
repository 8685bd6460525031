_base_ = [
    '_base_/resnet20.py',
    '_base_/cifar10.py',
    '_base_/schedule_160e.py',
]
