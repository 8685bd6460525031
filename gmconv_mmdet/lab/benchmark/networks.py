"""The networks that are compared: a ResNet-50 backbone or a Faster R-CNN with it, in variants."""
from __future__ import annotations

import torch
import torch.nn as nn
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config

from ...conversion import fold_gmconv
from ...conversion.swap import spatial_convs, swap
from ...openmmlab.mim_files import shipped
from ...visualization.measured_model import randomize

PLAIN = 'plain'

# Name -> arguments of GMResNet; of mmdet's ResNet where they say nothing of masks.
_BACKBONES = {
    PLAIN: {},
    'S-GM': dict(gm_stem='static'),
    'GM': dict(gm_stem='dynamic'),
    'RefConv': {},
}
_FOLDED = ' folded'
FOLDED = tuple(f'{name}{_FOLDED}' for name in ('S-GM', 'GM', 'RefConv'))
VARIANTS = (*_BACKBONES, *FOLDED)
NETWORKS = ('backbone', 'detector')


def build_network(network: str, variant: str, frozen_stages: int = -1) -> nn.Module:
    """Build a variant with random weights, the same ones in all variants where shapes agree.

    Args:
        network ('backbone' | 'detector'): ResNet-50, or Faster R-CNN with it and FPN.
        variant (str): of ``VARIANTS``. ``RefConv`` has all trained convolutions larger than 1x1
            refocused; ``folded`` ones have gone through :func:`fold_gmconv`, of ``GM`` the dynamic
            stem stays.
        frozen_stages (int): as of mmdet's ``ResNet``. -1 trains everything, batch norms too, which
            asks most of masks; mmdet's detectors freeze 1.

    Raises:
        ValueError: there is no such network or variant.
    """
    if network not in NETWORKS or variant not in VARIANTS:
        raise ValueError(f'network must be one of {NETWORKS} and variant one of {VARIANTS}, got '
                         f'{network!r}, {variant!r}')
    name = variant.replace(_FOLDED, '')
    options = _BACKBONES[name]
    backbone = dict(type='GMResNet' if 'gm_stem' in options else 'mmdet.ResNet', depth=50,
                    frozen_stages=frozen_stages, norm_eval=frozen_stages >= 0, **options)
    torch.manual_seed(0)
    if network == 'backbone':
        model = MMDET_MODELS.build(backbone)
    else:
        config = Config.fromfile(shipped('configs/gmconv/faster-rcnn_r50_fpn_1x_coco.py')).model
        config.backbone = dict(num_stages=4, out_indices=(0, 1, 2, 3), style='pytorch', **backbone)
        model = MMDET_MODELS.build(config)
    randomize(model)
    if name == 'RefConv':
        resnet = model if network == 'backbone' else model.backbone
        trainable = [conv for conv in spatial_convs(resnet)
                     if resnet.get_submodule(conv).weight.requires_grad]
        swap(resnet, trainable, kind='RefConv', trained=True)
    return fold_gmconv(model.eval() or model, inplace=True) if _FOLDED in variant else model
