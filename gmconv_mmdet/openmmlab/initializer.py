"""``GMPretrained``: loading start weights from a config's ``init_cfg``."""
from __future__ import annotations

import logging
from collections.abc import Sequence

import torch.nn as nn
from mmengine.logging import print_log
from mmengine.registry import WEIGHT_INITIALIZERS

from ..messages import shortened
from ..pretrained.detector import FEATURES, load_detector
from ..pretrained.load import load_pretrained
from .private_api import note_initialisation


@WEIGHT_INITIALIZERS.register_module(name='GMPretrained')
class GMPretrainedInit:
    """Weight initialiser: :func:`load_pretrained` from a config.

    ``init_cfg=dict(type='GMPretrained', checkpoint='torchvision://resnet50')`` on any backbone, GM
    or not; on a whole detector, ``model=dict(init_cfg=...)``, with a detector's checkpoint: heads of
    another shape start anew (:func:`~gmconv_mmdet.pretrained.detector.load_detector`) and the log
    names them. MMEngine runs its own ``Pretrained`` after all other initialisers but a foreign one
    before those of the network's children, which would overwrite what was loaded (deformable
    convolutions draw new weights). So this one lets the children initialise themselves first. In a
    list it has to be the last; our own backbones put it there.

    Args:
        checkpoint, preserve, prefix, allow: as of :func:`load_pretrained`.
    """

    def __init__(self,
                 checkpoint: str,
                 preserve: bool = True,
                 prefix: str | None = None,
                 allow: Sequence[str] = ()) -> None:
        self.checkpoint = checkpoint
        self.options = dict(preserve=preserve, prefix=prefix, allow=allow)

    def __call__(self, module: nn.Module) -> None:
        for child in module.children():
            if hasattr(child, 'init_weights') and not getattr(child, 'is_init', False):
                child.init_weights()
                child.is_init = True  # MMEngine passes over it now
        if hasattr(module, 'backbone') and not self.options['prefix'] and not self.options['allow']:
            report = load_detector(module, self.checkpoint, self.options['preserve'])
            anew = [name for name in report.initialized if name.split('.')[0] not in FEATURES]
            if anew:
                print_log(f'{report.source} has no fitting weights for {len(anew)} tensors of the '
                          f'heads, which start anew: {", ".join(anew)}', logger='current',
                          level=logging.WARNING)
        else:
            report = load_pretrained(module, self.checkpoint, **self.options)
        print_log(f'GMPretrained: {report}', logger='current')
        if report.approximated:
            print_log(
                f'{len(report.approximated)} dynamic masks of {report.source} depend on the image '
                'and have no place in this network: it starts from an approximation, the masks of '
                f'the predictors\' biases ({shortened(report.approximated)}). gm_stem=\'dynamic\' '
                'would keep them.', logger='current', level=logging.WARNING)
        note_initialisation(module, f'GMPretrainedInit: load from {self.checkpoint}')
