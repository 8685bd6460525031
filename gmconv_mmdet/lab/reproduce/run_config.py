"""The config that a run uses: a row's config with its data, seed and, for rehearsals, a small size.

It is written into the run's folder in full, with no base and no variable left: the record of what
was run, and immune to quotes and spaces in paths, which ``--cfg-options`` is not.
"""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from .coco_folder import CocoFolder
from .rows import Row

EVALUATORS = {'pycocotools': 'CocoMetric', 'faster': 'FastCocoMetric'}

REHEARSAL_EPOCHS = 2  # one before and one after a resume
REHEARSAL_SIZE = 128  # pixels; deformable convolution fails on much less
REHEARSAL_TRAIN_IMAGES = 4
REHEARSAL_VAL_IMAGES = 4


class RunOptions(NamedTuple):
    """How runs are made; the same for all rows of a table."""
    data: CocoFolder
    rehearsal: bool = False
    images_per_gpu: int = 2
    workers: int | None = None  # data loading processes a GPU; None keeps the config's
    amp: bool = False
    coco_eval: str = 'pycocotools'
    pretrained: str | None = None  # backbone weights of rows with GMConv; None keeps the config's
    pretrained_plain: str | None = None  # of rows without


def _dicts(node: Any) -> Iterator[dict]:
    """All dicts in a config, outer ones first."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _dicts(child)


def run_config(row: Row, seed: int, options: RunOptions,
               classes: tuple[str, ...] | None = None) -> Config:
    """The config of one run.

    Args:
        row (Row): of Table III or V.
        seed (int): of MMEngine's ``randomness``.
        options (RunOptions): data and size.
        classes (tuple[str, ...], optional): class names of the data, for a rehearsal on a data set
            with other classes than COCO's; None keeps COCO's 80.

    Raises:
        FileNotFoundError: the row's config isn't where the package expects it.
    """
    cfg = Config.fromfile(row.config)
    # Read from the row's config file: a copy that is reloaded must not find the variable again.
    cfg.pop('pretrained', None)
    weights = options.pretrained if row.has_gmconv else options.pretrained_plain
    if weights is not None:
        cfg.model.backbone.init_cfg.checkpoint = weights
        if row.has_gmconv:
            # The paper's protocol: masks come trained with the backbone, frozen stages keep theirs.
            cfg.model.backbone.freeze_masks = True
    elif options.rehearsal:
        cfg.model.backbone.init_cfg = None
        cfg.model.backbone.norm_eval = False  # nothing has statistics to be frozen
    _set_data(cfg, options)
    cfg.train_dataloader.batch_size = options.images_per_gpu
    cfg.auto_scale_lr.enable = True  # lr by batch size: 0.02 at the paper's 16 images
    cfg.randomness = dict(seed=seed)
    # One before the newest, should that be damaged: by a copy that broke off, or a disk.
    cfg.default_hooks.checkpoint.max_keep_ckpts = 2
    if options.amp:
        cfg.optim_wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')
    if options.rehearsal:
        _shrink(cfg)
        if classes is not None:
            set_classes(cfg, classes)
    return cfg


def _set_data(cfg: Config, options: RunOptions) -> None:
    data = options.data
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        part = 'train' if split == 'train' else 'val'
        loader.dataset.data_root = f'{data.root}/'
        loader.dataset.ann_file = getattr(data, f'{part}_annotations')
        loader.dataset.data_prefix = dict(img=getattr(data, f'{part}_images'))
        if options.workers is not None:
            loader.num_workers = options.workers
            loader.persistent_workers = options.workers > 0
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.type = EVALUATORS[options.coco_eval]
        evaluator.ann_file = str(data.path('val_annotations'))
    cfg.data_root = f'{data.root}/'


def set_classes(cfg: Config, classes: tuple[str, ...]) -> None:
    """Class names for all data sets, and their number for all heads."""
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.metainfo = dict(classes=classes)
    for part in _dicts(cfg.model):
        if 'num_classes' in part:
            part['num_classes'] = len(classes)


def _shrink(cfg: Config) -> None:
    """Everything a run does, in seconds: few small images, few boxes, two epochs."""
    cfg.train_cfg.update(max_epochs=REHEARSAL_EPOCHS, val_begin=REHEARSAL_EPOCHS)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.indices = (REHEARSAL_TRAIN_IMAGES if split == 'train' else
                                  REHEARSAL_VAL_IMAGES)
        for step in loader.dataset.pipeline:
            if step.type == 'Resize':
                step.scale = (REHEARSAL_SIZE, REHEARSAL_SIZE)
    cfg.model.data_preprocessor.pad_size_divisor = REHEARSAL_SIZE
    cfg.default_hooks.logger.interval = 1
    cfg.model.train_cfg.rpn_proposal.update(nms_pre=200, max_per_img=50)
    cfg.model.test_cfg.rpn.update(nms_pre=200, max_per_img=50)
    # So briefly trained, no class is likely; boxes have to come out for the evaluation to be used.
    cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=20)
    for part in _dicts(cfg.model.train_cfg):
        if part.get('type') == 'RandomSampler':
            part['num'] = 32


def backbone_weights(cfg: Config) -> str | None:
    """Where a config's backbone starts from, None for a random start."""
    for part in _dicts(cfg.model.get('backbone')):
        for init in _dicts(part.get('init_cfg')):
            if init.get('checkpoint'):
                return init['checkpoint']
    return None


def write_config(cfg: Config, path: Path) -> None:
    """Write a config as one Python file, all at once."""
    temporary = path.with_name(f'.{path.name}.part.py')  # MMEngine looks at the suffix
    cfg.dump(str(temporary))
    temporary.replace(path)
