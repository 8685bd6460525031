_base_ = [
    '_base_/resnet56.py',
    '_base_/cifar100.py',
    '_base_/schedule_160e.py',
]
model = dict(head=dict(num_classes=100))
