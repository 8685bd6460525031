"""What keeps a network without start weights from learning."""
from __future__ import annotations

import torch.nn as nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..backbones.converted_backbone import frozen_stages
from ..backbones.frozen_masks import FrozenMasks
from ..messages import shortened
from .start_weights import Start

_WEIGHTS = 'init_cfg=dict(type=\'GMPretrained\', checkpoint=\'torchvision://resnet50\') or the like'


def find_backbone(model: nn.Module) -> tuple[str, nn.Module] | None:
    """The outermost backbone of a model, with its name."""
    return next(((name, module) for name, module in model.named_modules()
                 if name.split('.')[-1] == 'backbone'), None)


def check_from_scratch(model: nn.Module, start: Start) -> list[str]:
    """Parts of the backbone that are frozen at random values.

    Args:
        model (nn.Module): initialised.
        start (Start): what it starts from.
    """
    found = find_backbone(model)
    if found is None:
        return []
    name, backbone = found
    model.train()  # where mmdet freezes
    if start.reaches(name):
        return _untrained_masks(backbone) if not start.problems else []
    problems = []
    stages = frozen_stages(backbone)
    if stages:
        number = getattr(backbone, 'frozen_stages', None)
        problems.append(f'{shortened(stages)} of the backbone are frozen at random weights'
                        f'{f" (frozen_stages={number})" if number is not None else ""}, since '
                        f'nothing is loaded: set frozen_stages=-1, or load weights, {_WEIGHTS}')
    norms = [layer for layer in backbone.modules() if isinstance(layer, _BatchNorm)]
    fixed = [layer for layer in norms if layer.affine and not layer.weight.requires_grad]
    if any(not layer.training for layer in norms if layer not in fixed):  # those are told of above
        problems.append('BatchNorm of the backbone keeps its first statistics, mean 0 and variance '
                        '1 (norm_eval=True), since nothing is loaded: set norm_eval=False and, if '
                        f'the memory allows, 8 images a GPU; or load weights, {_WEIGHTS}')
    elif fixed and not stages:
        problems.append('BatchNorm\'s scales and shifts are frozen at 1 and 0, since nothing is '
                        'loaded: set norm_cfg=dict(type=\'BN\', requires_grad=True)')
    return problems + _untrained_masks(backbone)


def _untrained_masks(backbone: nn.Module) -> list[str]:
    masks = backbone.frozen_untrained_masks() if isinstance(backbone, FrozenMasks) else []
    return [f'the masks of {shortened(masks)} are frozen as they start and will never learn: set '
            'freeze_masks=False or frozen_stages=-1, or start from a checkpoint with trained masks'
            ] if masks else []
