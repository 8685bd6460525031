"""A small detector's config."""


def detector(**backbone):
    return dict(type='FasterRCNN', data_preprocessor=dict(pad_size_divisor=32), backbone=dict(
        type='ResNet', depth=18, base_channels=8, **backbone), neck=dict(
        type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=5))
