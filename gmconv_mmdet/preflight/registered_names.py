"""Whether a config is one of MMDetection 3, and imports what registers the names in it."""
from __future__ import annotations

from collections.abc import Iterator

from mmengine import registry as root_registries
from mmengine.config import Config
from mmengine.registry import Registry

from ..messages import shortened
from ..openmmlab.config_file import find_key


def check_config(cfg: Config) -> list[str]:
    """What makes a config no config for training with MMDetection 3."""
    if isinstance(cfg.get('data'), dict) and not cfg.get('train_dataloader'):
        return ['the config is one of MMDetection 2 ("data" with samples_per_gpu): MMDetection 3 has '
                'train_dataloader, val_dataloader and test_dataloader. Start from a config of '
                'mmdet 3, or let tools/own_data.py write one']
    if not isinstance(cfg.get('train_dataloader'), dict):
        return ['the config has no train_dataloader: add mmdet\'s _base_/datasets/coco_detection.py '
                'to _base_, or let tools/own_data.py write a config']
    names = sorted(set(_ours(cfg)))
    imports = (cfg.get('custom_imports') or {}).get('imports') or []
    imports = [imports] if isinstance(imports, str) else imports
    if names and not any(str(name).split('.')[0] == 'gmconv_mmdet' for name in imports):
        return [f'nothing imports gmconv_mmdet, which registers {shortened(names)}: mmdet\'s '
                'train.py stops with "is not in the registry". Add custom_imports = '
                'dict(imports=[\'gmconv_mmdet\'], allow_failed_imports=False)']
    return []


def registered() -> dict[str, type]:
    """What MMEngine's registries and those below them hold by now: name -> class."""
    registries = [item for item in vars(root_registries).values() if isinstance(item, Registry)]
    return {name: kind for root in registries for registry in (root, *root.children.values())
            for name, kind in registry.module_dict.items()}


def _ours(cfg: Config) -> Iterator[str]:
    """The types in a config that this package registers."""
    # functools.partial, which some register, has no __module__ in Python 3.8.
    ours = {name for name, kind in registered().items()
            if str(getattr(kind, '__module__', '')).startswith('gmconv_mmdet')}
    for _, node in find_key(dict(cfg.items()), 'type'):
        if isinstance(node['type'], str) and node['type'].rpartition('.')[2] in ours:
            yield node['type']


def check_batch(cfg: Config) -> list[str]:
    """A learning rate that is meant for another batch; a remark, no fault."""
    scaling = cfg.get('auto_scale_lr') or {}
    meant, own = scaling.get('base_batch_size'), cfg.train_dataloader.get('batch_size')
    if not meant or not own or scaling.get('enable') or meant == own:
        return []
    return [f'the learning rate is meant for {meant} images a step, this config has {own} on one '
            'GPU: auto_scale_lr=dict(enable=True), or train.py --auto-scale-lr, fits it']
