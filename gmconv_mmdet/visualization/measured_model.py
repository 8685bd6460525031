"""Networks to measure: built from a config, with a checkpoint's weights or random ones."""
from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2
from pathlib import Path
from zlib import crc32

import torch
import torch.nn as nn
from mmengine.config import Config
from torch import Tensor

from ..openmmlab.config_file import one_line, read_config
from ..openmmlab.configured_network import FeatureExtractor, build_extractor, load_weights

SEED = 0  # of random weights
RANDOM = 'random weights'


@dataclass(frozen=True)
class MeasuredModel:
    """A backbone and its neck, ready to be measured.

    Attributes:
        label: short name for pictures and tables.
        weights: where the weights come from, for people.
        key: what the network depends on; results of another key are results of another network.
    """
    label: str
    cfg: Config
    network: FeatureExtractor
    weights: str
    key: str

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device


def model_labels(configs: Sequence[str], checkpoints: Sequence[str | None]) -> list[str]:
    """Names for models: the config's, with the checkpoint's where two would be the same otherwise."""
    stems = [Path(config).stem for config in configs]
    labels = [f'{stem}, {Path(checkpoint).stem if checkpoint else "random"}'
              if stems.count(stem) > 1 else stem for stem, checkpoint in zip(stems, checkpoints)]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f'two models would be called {label!r}: name each config with '
                             'each checkpoint once')
    return labels


def load_model(config: str, checkpoint: str | None = None, label: str | None = None,
               device: str = 'cpu') -> MeasuredModel:
    """Build a config's backbone and neck, in evaluation mode and without gradients of weights.

    Without a checkpoint the weights are random, see :func:`randomize`.

    Raises:
        ValueError: the config, the checkpoint or the device can't be used.
    """
    cfg = read_config(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)  # for what randomize leaves alone, as the predictors of sigmas
        network = build_extractor(cfg)
    randomize(network)
    weights = RANDOM
    if checkpoint is not None:
        count, total = load_weights(network, checkpoint), len(network.state_dict())
        weights = f'weights of {Path(checkpoint).name}' + (
            '' if count == total else f', {count} of {total} tensors, the others random')
    network.eval()
    network.requires_grad_(False)
    try:
        network.to(device)
    except (RuntimeError, AssertionError) as error:  # no such device, or none that works
        raise ValueError(f'the device {device!r} can\'t be used: {one_line(error)}') from error
    written = os.stat(checkpoint) if checkpoint else None
    origin = f'{written.st_size} {written.st_mtime_ns}' if written else f'seed {SEED}'
    key = hashlib.sha256(f'{cfg.model.to_dict()!r} {origin}'.encode()).hexdigest()[:16]
    return MeasuredModel(label or Path(config).stem, cfg, network, weights, key)


@torch.no_grad()
def randomize(network: nn.Module) -> None:
    """Draw the weights of all convolutions as PyTorch draws a convolution's, each from a seed of its
    own name: layers of one name and shape are the same in every network, so that networks differ by
    their masks and offsets alone (mmcv would start deformable convolutions with weights 2.4 times
    those of others, MMDetection residual branches at zero). Weights that are all zero stay so.
    """
    for name, parameter in network.named_parameters():
        if parameter.dim() == 4 and parameter.any():
            generator = torch.Generator().manual_seed(SEED + crc32(name.encode()))
            # nn.init.kaiming_uniform_(a=5**0.5), which takes a generator from torch 2.2 on only.
            bound = (1 / parameter[0].numel())**0.5
            parameter.uniform_(-bound, bound, generator=generator)


def feature_maps(network: FeatureExtractor, image: Tensor) -> dict[str, Tensor]:
    """The maps of backbone and neck under their usual names.

    ``C<n>`` are the backbone's, ``P<n>`` the neck's, ``n`` the logarithm of the stride, at least one
    more than that of the map before: a ResNet with an FPN gives C2-C5 and P2-P6.
    """
    backbone = _listed(network.backbone(image))
    if any(f.dim() != 4 for f in backbone):
        raise ValueError('effective receptive fields need feature maps (N, C, H, W); the backbone '
                         f'gives shapes {[tuple(f.shape) for f in backbone]}')
    neck = backbone
    for module in [network.neck] if hasattr(network, 'neck') else network.necks:
        neck = _listed(module(tuple(neck)))
    pyramid = neck is not backbone and all(f.dim() == 4 for f in neck)  # no classifier's pooling
    named = {}
    for letter, features in (('C', backbone), ('P', neck if pyramid else [])):
        number = -1
        for feature in features:
            # Dilated stages keep the stride of the stage before, but not its number.
            number = max(number + 1, stride_of(feature, image).bit_length() - 1)
            named[f'{letter}{number}'] = feature
    return named


def _listed(features: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [features] if isinstance(features, Tensor) else list(features)


def stride_of(feature: Tensor, image: Tensor) -> int:
    """Pixels between neighbouring units, a power of two, from the sizes of map and image."""
    ratio = max(n / m for n, m in zip(image.shape[2:], feature.shape[2:]))
    # Maps are rounded up as a rule, so the ratio is too small rather than too large: by up to a
    # half, where a map has two units.
    return 1 << max(0, ceil(log2(ratio) - 0.2))
