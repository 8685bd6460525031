_base_ = [
    '_base_/resnet18.py',
    '_base_/cifar100.py',
    '_base_/schedule_200e.py',
]
model = dict(head=dict(num_classes=100))
