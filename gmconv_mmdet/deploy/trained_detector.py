"""Detectors from a config and a checkpoint, for deployment: every tensor must be there."""
from __future__ import annotations

from pathlib import Path

import torch.nn as nn
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS

from ..checkpoints.checkpoint_file import CheckpointError, read_checkpoint
from ..checkpoints.usable_tensors import refuse_unusable, tensors_by_name
from ..openmmlab.config_file import building, config_scope, one_line, read_config, without_weights
from ..openmmlab.configured_network import FeatureExtractor


def new_detector(cfg: Config) -> nn.Module:
    """A config's model at random weights, nothing loaded or downloaded.

    Raises:
        ConfigError: it can't be built.
    """
    with config_scope(cfg), building('the model'):
        return MODELS.build(ConfigDict(without_weights(cfg.model)))


def build_detector(cfg: Config, state: dict, origin: str) -> nn.Module:
    """Build a config's model, load all of ``state`` and put it into evaluation mode; errors name
    ``origin``, where the tensors come from.

    Raises:
        CheckpointError: a tensor is missing, left over, of another shape, or no number.
        ConfigError: the config's model can't be built.
    """
    model = new_detector(cfg)
    try:
        refuse_unusable(state)
        model.load_state_dict(state)
    except CheckpointError as error:
        raise CheckpointError(f'{origin}: {error}') from error
    except RuntimeError as error:  # torch lists every tensor that doesn't fit
        raise CheckpointError(f'{origin} does not hold this config\'s model: '
                              f'{one_line(error)}') from error
    model.eval()
    return model


def trained_detector(config: str | Path, checkpoint: str | Path) -> tuple[Config, nn.Module, dict]:
    """A trained detector: its config, the model in evaluation mode, and the checkpoint's metadata.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the checkpoint can't be read or isn't this config's.
        ConfigError: the config can't be read, or its model can't be built.
    """
    cfg = read_config(config)
    content = read_checkpoint(checkpoint)
    meta = content.get('meta')
    state = tensors_by_name(content.get('state_dict', content))
    return (cfg, build_detector(cfg, state, str(checkpoint)),
            dict(meta) if isinstance(meta, dict) else {})


def feature_extractor(model: nn.Module, with_neck: bool = True) -> FeatureExtractor:
    """The part of a detector that sees the image, ``(N, 3, H, W)`` as the data preprocessor leaves
    it, to a tuple of feature maps; shares the detector's modules."""
    neck = getattr(model, 'neck', None) if with_neck else None
    return FeatureExtractor(model.backbone, [] if neck is None else [neck]).eval()
