"""Backbones with masked or refocused convolutions."""
from .cifar_resnet import CifarResNet
from .gm_backbone import GMBackbone
from .gm_resnet import GMResNet
from .refconv_backbone import RefConvBackbone

__all__ = ['CifarResNet', 'GMBackbone', 'GMResNet', 'RefConvBackbone']
