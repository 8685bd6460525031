"""Where a config's backbone has masks, told from the config alone."""
from __future__ import annotations

import re

from mmengine.config import Config

from ..checkpoints.checkpoint_file import CheckpointError
from .mim_files import shipped

_STAGE = re.compile(r'layer(\d)\.')


def row_placement(row: str, convs: list[str]) -> dict[str, str]:
    """Where a row of Table V has masks: name of a convolution -> ``'dynamic'`` or ``'static'``.

    Args:
        row (str): the backbone's part of a config's name, ``'r50-gm-stem-l1'``.
        convs (list[str]): names of the convolutions larger than 1x1, a ResNet's.

    Raises:
        CheckpointError: no such row, or a network without a ResNet's stages.
    """
    folder = shipped('configs/gmconv')
    config = folder / f'faster-rcnn_{row}_fpn_1x_coco.py'
    if not config.is_file():
        known = sorted(path.name.split('_')[1] for path in folder.glob('faster-rcnn_*'))
        raise CheckpointError(f'--row must be one of {", ".join(known)}, got {row!r}')
    if {stage[1] for stage in map(_STAGE.match, convs) if stage} != set('1234'):
        parts = sorted({conv.split('.')[0] for conv in convs})
        raise CheckpointError(f'--row {row} wants a ResNet with stages layer1 to layer4; this '
                              f'network has {", ".join(parts)}')
    backbone = Config.fromfile(config).model.backbone
    if backbone.type != 'GMResNet':
        return {}
    stem, stages = backbone.get('gm_stem', 'dynamic'), backbone.get('gm_stages', (True, ) * 4)
    placement = {}
    for conv in convs:
        stage = _STAGE.match(conv)
        if stage and stages[int(stage[1]) - 1]:
            placement[conv] = 'static'
        elif not stage and stem:
            # Of a deep stem's three convolutions the first is dynamic.
            placement[conv] = stem if stem not in placement.values() else 'static'
    return placement
