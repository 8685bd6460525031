"""What a base config has that a data set of one's own changes, and where it stands."""
from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from ..openmmlab.config_file import config_scope, find_detector, find_key, read_config
from ..openmmlab.mim_files import shipped
from ..openmmlab.plain_backbone import plain_backbone, type_name
from .coco_files import OwnDataError

DEFAULT_BASE = 'configs/gmconv/faster-rcnn_r50-gm-stem-l1_fpn_1x_coco.py'
Keys = tuple  # of str and int: the way to a part of a config


@dataclass(frozen=True)
class Base:
    """A config to start from, and what ``_base_`` calls it."""
    reference: str
    cfg: Config


def read_base(name: str) -> Base:
    """A config by its path, as ``mmdet::faster_rcnn/...``, or by its path in this project
    (``configs/gmconv/...``) from wherever that is installed.

    Raises:
        FileNotFoundError: there is no such config.
        ConfigError: it can't be read.
        OwnDataError: it is no config for detection on COCO-format data.
    """
    if name.startswith('mmdet::'):
        path, reference = shipped(f'configs/{name[len("mmdet::"):]}', 'mmdet'), name
    else:
        path = Path(name).expanduser().absolute()
        if not path.is_file() and name.startswith('configs/'):
            path = shipped(name)
        reference = path.as_posix()
    base = Base(reference, read_config(path))
    find_detector(base.cfg.model)
    for split in ('train', 'val', 'test'):
        dataset_keys(base.cfg, split)
    if has_key(base.cfg.model, 'num_things_classes'):
        raise OwnDataError(f'{name} is for panoptic segmentation: take a base for detection')
    if not list(find_key(base.cfg.model, 'num_classes')):
        raise OwnDataError(f'{name} has no num_classes in its model: take a base for detection')
    return base


def dataset_keys(cfg: Config, split: str) -> list[str]:
    """The keys from a dataloader to the data set that holds ``ann_file``, wrappers passed through.

    Raises:
        OwnDataError: there is none.
    """
    node, keys = (cfg.get(f'{split}_dataloader') or {}).get('dataset'), ['dataset']
    while isinstance(node, Mapping) and 'ann_file' not in node and 'dataset' in node:
        node, keys = node['dataset'], [*keys, 'dataset']
    if not isinstance(node, Mapping) or 'ann_file' not in node:
        kind = node.get('type') if isinstance(node, Mapping) else type(node).__name__
        raise OwnDataError(f'the base\'s {split}_dataloader reads a {kind}, not one data set with '
                           'an ann_file: take a base that is made for COCO')
    return keys


def dataset_of(cfg: Config, split: str) -> Mapping:
    """The data set behind :func:`dataset_keys`."""
    node: Any = cfg[f'{split}_dataloader']
    for key in dataset_keys(cfg, split):
        node = node[key]
    return node


def has_key(node: Any, key: str) -> bool:
    """Whether any dictionary in ``node`` has ``key``."""
    return any(True for _ in find_key(node, key))


def wants_masks(cfg: Config) -> bool:
    """Whether training reads segmentations."""
    return any(step.get('with_mask') for _, step in find_key(
        dict(dataset_of(cfg, 'train')), 'with_mask'))


def resizes(cfg: Config, split: str) -> list[tuple[int, int]]:
    """The scales of the plain ``Resize`` steps of a data set's pipeline, if it has no other step
    that sets a size; else empty."""
    steps = [step for step in dataset_of(cfg, split).get('pipeline', [])]
    kinds = [str(step.get('type')).rpartition('.')[2] for step in steps]
    others = ('Mosaic', 'RandomChoice', 'RandomResize', 'RandomAffine', 'Crop', 'MixUp', 'Pad',
              'RandomChoiceResize', 'Expand', 'TestTimeAug')
    if any(other in kind for kind in kinds for other in others):
        return []
    return [tuple(step['scale']) for kind, step in zip(kinds, steps)
            if kind == 'Resize' and isinstance(step.get('scale'), (list, tuple))]


def base_scale(cfg: Config) -> tuple[int, int] | None:
    """The scale ``(W, H)`` that training and test resize to, None where there is not just one."""
    found = set(resizes(cfg, 'train')) | set(resizes(cfg, 'val')) | set(resizes(cfg, 'test'))
    if len(found) != 1 or not resizes(cfg, 'train'):
        return None
    return found.pop()


def anchor_generators(cfg: Config) -> list[tuple[Keys, Mapping]]:
    """The anchor generators of the heads whose sizes are a multiple of the stride, with the way
    from ``model`` there."""
    found = []
    for keys, head in find_key(cfg.model, 'anchor_generator'):
        generator = head['anchor_generator']
        if (str(generator.get('type')) == 'AnchorGenerator' and not any(
                isinstance(key, int) for key in keys)
                and ('scales' in generator or 'octave_base_scale' in generator)
                and len(generator.get('ratios', ())) > 1):
            found.append(((*keys, 'anchor_generator'), generator))
    return found


def anchor_sides(generator: Mapping) -> tuple[float, float]:
    """Sides in pixels of the smallest and the largest square anchor."""
    strides = [s if isinstance(s, (int, float)) else min(s) for s in generator['strides']]
    if generator.get('octave_base_scale'):
        scales = [generator['octave_base_scale'] * 2**(i / generator['scales_per_octave'])
                  for i in range(generator['scales_per_octave'])]
    else:
        scales = list(generator['scales'])
    return min(strides) * min(scales), max(strides) * max(scales)


def backbone_keys(cfg: Config) -> list[str]:
    """The way from ``model`` to the backbone with weights: inside a ``GMBackbone`` its inner one."""
    keys = [*find_detector(cfg.model)[0], 'backbone']
    node: Any = cfg.model
    for key in keys:
        node = node[key]
    return keys + ['backbone'] if isinstance(node.get('backbone'), Mapping) else keys


def has_masks(cfg: Config) -> bool:
    """Whether the backbone has convolutions of this package."""
    backbone = find_detector(cfg.model)[1]['backbone']
    return (type_name(backbone) in ('GMResNet', 'GMBackbone')
            or (backbone.get('conv_cfg') or {}).get('type') == 'GMConv')


def accepts(cfg: Config, backbone: Mapping, argument: str) -> bool:
    """Whether the backbone's class (of ``GMBackbone`` its base's) or one that it derives from has
    an argument."""
    with config_scope(cfg), MODELS.switch_scope_and_registry(None) as registry:
        cls = registry.get(plain_backbone(backbone)['type'])
    return cls is not None and any(argument in inspect.signature(parent.__init__).parameters
                                   for parent in cls.__mro__[:-1])
