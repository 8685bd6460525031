"""A small COCO-format set, a config for it, and what ``tools/reproduce.py check`` says of both."""
from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from mmengine.config import Config

from gmconv_mmdet.lab.reproduce.preflight import PreflightError
from gmconv_mmdet.openmmlab.mim_files import shipped
from gmconv_mmdet.preflight.datasets import check_data

from ..lab.reproduce.conftest import CLASSES, write_coco
from .outcome import tool

TRAIN = 'annotations/instances_train.json'


@lru_cache(maxsize=None)
def _row() -> Config:
    return Config.fromfile(shipped('configs/gmconv/faster-rcnn_r50-gm-stem-l1_fpn_1x_coco.py'))


def coco_config(root: Path) -> Config:
    """A row of Table V for the data of ``write_coco``."""
    cfg = _row().copy()
    for split, part in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        cfg[f'{split}_dataloader'].dataset.update(
            data_root=str(root), ann_file=f'annotations/instances_{part}.json',
            data_prefix=dict(img='images'), metainfo=dict(classes=CLASSES))
    cfg.val_evaluator.ann_file = str(root / 'annotations' / 'instances_val.json')
    cfg.test_evaluator = cfg.val_evaluator
    cfg.model.roi_head.bbox_head.num_classes = len(CLASSES)
    return cfg


def data(folder: Path) -> Path:
    return write_coco(folder / 'some data', size=(96, 96))


def check(root: Path, mode: str = 'heads') -> str:
    """What the tool finds in the data, without a process of its own.

    Raises:
        ValueError: with all problems.
    """
    said: list[str] = []
    problems = check_data(coco_config(root), mode, remark=said.append)
    if problems:
        raise ValueError(str(PreflightError(problems)))
    return '\n'.join([*said, 'no problem'])


def whole_tool(folder: Path, *arguments: object, command: str = 'check') -> Callable[[], str]:
    """``tools/reproduce.py`` with a whole config, written to the folder."""
    path = folder / 'config.py'
    coco_config(folder / 'some data').dump(path)
    return lambda: tool('reproduce.py', command, '--config', path, '--rows', 'plain',
                        *(arguments or ('--gpus', 0, '--work-root', folder / 'work')))
