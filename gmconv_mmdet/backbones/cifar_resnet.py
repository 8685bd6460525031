"""Thin ResNets for CIFAR (He et al., arXiv 1512.03385, section 4.2): ResNet-20, 32, 44, 56, 110.

mmpretrain has none: its ``ResNet_CIFAR`` is the wide one, ResNet-18 and deeper with 64 to 512
channels.
"""
from __future__ import annotations

import torch.nn as nn
import torch.nn.functional as F
from mmengine.model import BaseModule, Sequential
from mmengine.registry import MODELS
from torch import Tensor


class CifarBlock(BaseModule):
    """Two 3x3 convolutions with batch norm, and a shortcut without parameters: where the block
    halves the image and doubles the channels, every other pixel and zeros for the new channels
    ("option A").
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.new_channels = channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in_channels, H, W)`` to ``(N, channels, ceil(H / stride), ceil(W / stride))``."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, 0, self.new_channels))
        return F.relu(out + shortcut)


@MODELS.register_module()
class CifarResNet(BaseModule):
    """ResNet for 32x32 images: a 3x3 stem and three stages of 16, 32 and 64 channels.

    With its classifier of ten classes ResNet-20 has 0.27 M parameters and ResNet-56 0.85 M, the
    figures of arXiv 2302.04544, Table I. (With 1x1 convolutions as shortcuts, as some codes have
    them, ResNet-56 would have 0.86 M.)

    Args:
        depth (int): ``6n + 2`` with a whole n of 1 or more.
        in_channels (int): channels of the image.
        init_cfg (dict | list, optional): by default as He et al.: Kaiming-normal convolutions.

    Raises:
        ValueError: there is no such depth.
    """

    def __init__(self, depth: int, in_channels: int = 3,
                 init_cfg: dict | list | None = None) -> None:
        super().__init__(init_cfg or [
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer='_BatchNorm'),
        ])
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f'depth must be 6n + 2 with n of 1 or more (20, 32, 44, 56, 110), got '
                             f'{depth!r}')
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(blocks, 16, 16, stride=1)
        self.layer2 = self._stage(blocks, 16, 32, stride=2)
        self.layer3 = self._stage(blocks, 32, 64, stride=2)

    @staticmethod
    def _stage(blocks: int, in_channels: int, channels: int, stride: int) -> Sequential:
        return Sequential(CifarBlock(in_channels, channels, stride),
                          *(CifarBlock(channels, channels, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """``(N, in_channels, H, W)`` to a tuple with ``(N, 64, ceil(H / 4), ceil(W / 4))``."""
        x = F.relu(self.bn1(self.conv1(x)))
        return (self.layer3(self.layer2(self.layer1(x))), )
