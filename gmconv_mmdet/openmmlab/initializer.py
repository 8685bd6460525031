"""``GMPretrained``: loading start weights from a config's ``init_cfg``."""
from __future__ import annotations

import logging
from collections.abc import Sequence

import torch.nn as nn
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.registry import WEIGHT_INITIALIZERS

from ..checkpoints.checkpoint_file import CheckpointError
from ..messages import shortened
from ..pretrained.detector import FEATURES, load_detector
from ..pretrained.load import load_pretrained
from .private_api import note_initialisation
from .start_weights import leave_out_start_weights


@WEIGHT_INITIALIZERS.register_module(name='GMPretrained')
class GMPretrainedInit:
    """Weight initialiser: :func:`load_pretrained` from a config.

    ``init_cfg=dict(type='GMPretrained', checkpoint='torchvision://resnet50')`` on any backbone, GM
    or not; on a whole detector, ``model=dict(init_cfg=...)``, with a detector's checkpoint: heads of
    another shape start anew (:func:`~gmconv_mmdet.pretrained.detector.load_detector`), the log
    names them, and start weights that backbone and neck name themselves are not asked for.

    MMEngine runs its own ``Pretrained`` after all other initialisers but a foreign one before those
    of the network's children, which would overwrite what was loaded (deformable convolutions draw
    new weights). So this one lets the children initialise themselves first. In a list it has to be
    the last; our own backbones put it there. Detectors that draw weights after all that (DETR and
    its kin) are refused: they need ``load_from``.

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

    def _prepare(self, detector: nn.Module) -> None:
        """Refuse what would overwrite the detector's weights, leave out what they replace."""
        kind = type(detector)
        stock = BaseModule.init_weights
        if getattr(kind, 'init_weights', stock) is not stock:
            raise CheckpointError(
                f'{kind.__name__} draws weights after its init_cfg and would overwrite those of '
                f'{self.checkpoint}: take init_cfg out of the model and write '
                f'load_from={self.checkpoint!r} instead')
        for part in FEATURES:
            if hasattr(detector, part):
                leave_out_start_weights(getattr(detector, part))
        detector.backbone.start_weights_left_out = True

    def __call__(self, module: nn.Module) -> None:
        detector = hasattr(module, 'backbone')
        if detector:
            self._prepare(module)
        for child in module.children():
            if hasattr(child, 'init_weights') and not getattr(child, 'is_init', False):
                child.init_weights()
                child.is_init = True  # MMEngine passes over it now
        load = load_detector if detector else load_pretrained
        report = load(module, self.checkpoint, **self.options)
        anew = [name for name in report.initialized
                if report.reasons.get(name, '').startswith('allowed')]
        if anew:
            print_log(f'{report.source} has no fitting weights for {len(anew)} tensors, which start '
                      f'anew: {", ".join(anew)}', logger='current', level=logging.WARNING)
        print_log(f'GMPretrained: {report}', logger='current')
        if report.approximated:
            print_log(
                f'{len(report.approximated)} dynamic masks of {report.source} depend on the image '
                'and have no place in this network: it starts from an approximation, the masks of '
                f'the predictors\' biases ({shortened(report.approximated)}). gm_stem=\'dynamic\' '
                'would keep them.', logger='current', level=logging.WARNING)
        if detector and hasattr(module.backbone, 'report_frozen_masks'):
            module.backbone.report_frozen_masks()  # it was silent before its weights were there
        note_initialisation(module, f'GMPretrainedInit: load from {self.checkpoint}')
