"""Rows of the paper's Tables III and V: their configs, the data, and the config of each run.

A run's config is written into its folder in full, with no base and no variable left: the record of
what was run, and immune to quotes and spaces in paths, which ``--cfg-options`` is not.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from ...openmmlab.mim_files import shipped
from .paper import DETECTION_TABLES, DetectionResult
from .run_folder import Recipe, RunFolder

# What the paper compares a row with. The other backbones' baseline is the plain ResNet-50.
_BASELINES = {'r50': None, 'r50-gm-stem-l1-dcn-l2-l4': 'r50-dcn-l2-l4'}
EPOCHS = 12  # schedule 1x
COCO_2017_IMAGES = {'train': 118_287, 'val': 5_000}
# Looked for in this order; the first that exists is taken. COCO 2017's own names come first.
_ANNOTATIONS = ('annotations/instances_{split}2017.json', 'annotations/instances_{split}.json',
                'annotations/{split}.json', '{split}.json')
_IMAGES = ('{split}2017', '{split}', 'images/{split}2017', 'images/{split}', 'images')
EVALUATORS = {'pycocotools': 'CocoMetric', 'faster': 'FastCocoMetric'}

REHEARSAL_EPOCHS = 2  # one before and one after a resume
REHEARSAL_SIZE = 128  # pixels; deformable convolution fails on much less
REHEARSAL_TRAIN_IMAGES = 4
REHEARSAL_VAL_IMAGES = 4


class Row(NamedTuple):
    """One detector with one backbone."""
    detector: str
    backbone: str

    @property
    def name(self) -> str:
        return f'{self.detector}_{self.backbone}'

    @property
    def config(self) -> Path:
        return config_folder() / f'{self.name}_fpn_1x_coco.py'

    @property
    def baseline(self) -> Row | None:
        """The row that the paper calls a gain against, None for a baseline."""
        backbone = _BASELINES.get(self.backbone, 'r50')
        return None if backbone is None else Row(self.detector, backbone)

    @property
    def has_gmconv(self) -> bool:
        return 'gm-' in self.backbone


def config_folder() -> Path:
    """``configs/gmconv``."""
    return shipped('configs/gmconv')


def paper_results(table: str) -> dict[Row, DetectionResult]:
    """The rows of a table, in the paper's order, with what the paper prints there.

    Raises:
        ValueError: not a detection table.
    """
    if table not in DETECTION_TABLES:
        raise ValueError(f'table must be one of {", ".join(DETECTION_TABLES)}, got {table!r}')
    return {Row(result.detector, result.backbone): result for result in DETECTION_TABLES[table]}


def select_rows(table: str, names: Sequence[str] | None = None) -> list[Row]:
    """Rows of a table, all or those named, in the paper's order.

    Args:
        table (str): 'III' or 'V'.
        names (Sequence[str], optional): row names (``faster-rcnn_r50-gm-stem-l1``), backbones for
            both detectors (``r50-gm-stem-l1``) or detectors (``faster-rcnn``).

    Raises:
        ValueError: a name that means no row of the table.
    """
    rows = list(paper_results(table))
    if names is None:
        return rows
    unknown = [name for name in names
               if not any(name in (row.name, row.backbone, row.detector) for row in rows)]
    if unknown:
        raise ValueError(f'no such row in Table {table}: {", ".join(unknown)}. Its rows are '
                         f'{", ".join(row.name for row in rows)}; a backbone (r50) or a detector '
                         '(faster-rcnn) names all rows that have it')
    return [row for row in rows
            if any(name in (row.name, row.backbone, row.detector) for name in names)]


class CocoFolder(NamedTuple):
    """A data set on disk. All but ``root`` are relative to ``root`` (or absolute)."""
    root: Path
    train_annotations: str
    val_annotations: str
    train_images: str
    val_images: str

    def path(self, part: str) -> Path:
        """Absolute path of one of the four parts, by its field's name."""
        return self.root / getattr(self, part)


def find_coco_folder(root: Path | str, **given: str | None) -> CocoFolder:
    """The parts of a data set under ``root``.

    Args:
        root (Path | str): the folder that holds the data set.
        **given: parts that are known, by :class:`CocoFolder`'s field names; None is as not given. A
            part that is neither given nor found keeps COCO 2017's name: preflight reports it.

    Returns:
        CocoFolder: with an absolute root.
    """
    root = Path(root).expanduser().absolute()

    def part(name: str, candidates: Sequence[str]) -> str:
        if given.get(name) is not None:
            return given[name]
        names = [candidate.format(split=name.split('_')[0]) for candidate in candidates]
        return next((candidate for candidate in names if (root / candidate).exists()), names[0])

    return CocoFolder(
        root,
        train_annotations=part('train_annotations', _ANNOTATIONS),
        val_annotations=part('val_annotations', _ANNOTATIONS),
        train_images=part('train_images', _IMAGES),
        val_images=part('val_images', _IMAGES))


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


class TableRecipe(Recipe):
    """Rows of Table III or V."""

    def __init__(self, options: RunOptions, classes: tuple[str, ...] | None = None) -> None:
        self.options, self.classes = options, classes

    def expected_images(self, rehearsal: bool) -> dict | None:
        return None if rehearsal else COCO_2017_IMAGES

    def config(self, run: RunFolder) -> Config:
        return run_config(run.row, run.seed, self.options, self.classes)

    def settings(self, run: RunFolder, cfg: Config) -> dict:
        data = self.options.data._asdict()
        return dict(data={field: str(value) for field, value in data.items()}, amp=self.options.amp)

    def record(self, run: RunFolder, cfg: Config, checkpoint: Path) -> dict:
        return dict(detector=run.row.detector, backbone=run.row.backbone)
