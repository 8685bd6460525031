"""The part of a configured model that sees the image: its backbone and its neck."""
from __future__ import annotations

from collections.abc import Mapping

import torch.nn as nn
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor

from ..checkpoints.checkpoint_file import CheckpointError, read_checkpoint
from ..checkpoints.usable_tensors import refuse_unusable, tensors_by_name
from .config_file import building, config_scope, find_detector, without_weights


class FeatureExtractor(nn.Module):
    """A backbone followed by its necks: ``(N, 3, H, W)`` to a tuple of feature maps."""

    def __init__(self, backbone: nn.Module, necks: list[nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone
        if len(necks) == 1:
            self.neck = necks[0]
        else:
            self.necks = nn.ModuleList(necks)

    def forward(self, image: Tensor):
        features = self.backbone(image)
        for neck in [self.neck] if hasattr(self, 'neck') else self.necks:
            features = neck(features)
        return features


def build_extractor(cfg: Config, backbone: Mapping | None = None,
                    with_neck: bool = True) -> FeatureExtractor:
    """Build the backbone and the neck of a config, without weights.

    Args:
        cfg: a loaded config of MMDetection or MMPretrain.
        backbone: a backbone config to use instead of the config's own.
        with_neck: False for the backbone alone.
    """
    _, detector = find_detector(cfg['model'])
    necks = detector.get('neck') if with_neck else None
    necks = [] if necks is None else necks if isinstance(necks, (list, tuple)) else [necks]
    with config_scope(cfg), building('the backbone or the neck'):
        return FeatureExtractor(MODELS.build(without_weights(backbone or detector['backbone'])),
                                [MODELS.build(without_weights(neck)) for neck in necks])


def load_weights(network: FeatureExtractor, checkpoint: str) -> int:
    """Load what a detector's checkpoint holds for its backbone and neck.

    Returns:
        the number of tensors loaded.

    Raises:
        ValueError: if the checkpoint can't be read, holds nothing for this network, other shapes,
            or values that are no numbers.
    """
    content = read_checkpoint(checkpoint)
    content = tensors_by_name(content.get('state_dict', content))
    wanted = network.state_dict()
    found = {}
    for key, value in content.items():
        # A checkpoint of a tracker or of a model in a wrapper has a prefix more.
        name = next((key[len(p):] for p in ('', 'module.', 'detector.') if key.startswith(p)
                     and key[len(p):] in wanted), None)
        if name is not None:
            if value.shape != wanted[name].shape:
                raise ValueError(f'{checkpoint}: {key} is {tuple(value.shape)}, the network needs '
                                 f'{tuple(wanted[name].shape)}')
            found[name] = value
    if not found:
        raise ValueError(f'{checkpoint} holds no weight of this backbone')
    try:
        refuse_unusable(found)
    except CheckpointError as error:
        raise CheckpointError(f'{checkpoint}: {error}') from error
    network.load_state_dict(found, strict=False)
    return len(found)
