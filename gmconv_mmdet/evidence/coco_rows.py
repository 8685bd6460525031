"""Rows of Table V, briefly trained on COCO128 from random weights, with mmdet's own tool."""
from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..reproduce.coco_folder import CocoFolder, find_coco_folder
from ..reproduce.driver import child_environment, mmdet_tool
from ..reproduce.rows import Row
from ..reproduce.run_config import RunOptions, run_config, write_config

ROWS = tuple(Row('faster-rcnn', backbone) for backbone in (
    'r50', 'r50-gm-stem-l1', 'r50-gm-stem-l1-l2', 'r50-gm-stem-l1-l3', 'r50-gm-stem-l1-l4'))
_ANNOTATIONS = 'annotations/instances_all.json'


def coco128_folder(data: Path) -> CocoFolder:
    """All images of COCO128 for training and for validation."""
    return find_coco_folder(data, train_annotations=_ANNOTATIONS, val_annotations=_ANNOTATIONS,
                            train_images='images', val_images='images')


def full_size_config(row: Row, data: Path, images_per_gpu: int) -> Config:
    """A row's config at its full image size, on COCO128 or any other folder in COCO's format, with
    random weights in the backbone and trained as there: stem and L1 frozen."""
    whole = (data / _ANNOTATIONS).is_file()
    config = run_config(row, 0, RunOptions(
        coco128_folder(data) if whole else find_coco_folder(data), images_per_gpu=images_per_gpu))
    config.model.backbone.init_cfg = None
    return config


def short_config(row: Row, data: Path, iterations: int, images_per_gpu: int, amp: bool,
                 rehearsal: bool, checkpoint: str | None = None) -> Config:
    """A row's config for a few hundred iterations, trained and evaluated on the same images.

    Args:
        row (Row): of Table V.
        data (Path): COCO128's folder.
        iterations (int): at least that many; whole epochs. A rehearsal has its own number.
        images_per_gpu (int): batch size.
        amp (bool): fp16.
        rehearsal (bool): few small images and two epochs.
        checkpoint (str, optional): the backbone's weights. Without, it is random, and trained from
            the stem on with batch norms that learn.
    """
    folder = coco128_folder(data)
    config = run_config(row, 0, RunOptions(
        folder, rehearsal=rehearsal, images_per_gpu=images_per_gpu, amp=amp, workers=0 if rehearsal
        else 4, pretrained=checkpoint, pretrained_plain=checkpoint))
    if checkpoint is None:
        config.model.backbone.update(init_cfg=None, norm_eval=False, frozen_stages=-1)
    if not rehearsal:
        images = len(json.loads(folder.path('train_annotations').read_text())['images'])
        epochs = math.ceil(iterations * images_per_gpu / images)
        config.train_cfg.update(max_epochs=epochs, val_interval=epochs)
        warmup, *_ = config.param_scheduler
        config.param_scheduler = [{**warmup, 'end': min(warmup.end, iterations // 5)}]
        config.default_hooks.checkpoint.update(interval=epochs)
        config.default_hooks.logger.interval = 10
    return config


def train_row(row: Row, config: Config, folder: Path, gpus: int) -> dict[str, Any]:
    """Train and evaluate.

    Returns:
        dict: losses by iteration (every tenth), whether all are finite, the masks at the end (a
        line of ``SigmaLogHook``'s table each), COCO's numbers on the training images.

    Raises:
        RuntimeError: the training failed; its output's last lines.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, log = folder / 'config.py', folder / 'output.log'
    write_config(config, file)
    with log.open('wb') as output:
        status = subprocess.run(
            [sys.executable, '-W', 'ignore', str(mmdet_tool('train.py')), str(file), '--work-dir',
             str(folder)], env=child_environment(gpus), stdout=output,
            stderr=subprocess.STDOUT).returncode
    if status:
        raise RuntimeError(f'{row.name} failed with {status}:\n'
                           + '\n'.join(log.read_text(errors='replace').splitlines()[-15:]))
    newest = max((path.parent for path in folder.glob('*/vis_data')), key=lambda path: path.name)
    scalars = (newest / 'vis_data' / 'scalars.json').read_text()
    lines = [json.loads(line) for line in scalars.splitlines()]
    steps = [line for line in lines if 'loss' in line]
    metrics = next(line for line in reversed(lines) if 'coco/bbox_mAP' in line)
    losses = [line['loss'] for line in steps]
    return dict(
        row=row.name, losses=losses, finite=all(map(math.isfinite, losses)),
        masks=_read_table(newest / 'masks.csv'),
        seconds_per_iteration=steps[-1].get('time'), memory_mb=steps[-1].get('memory'),
        metrics={key.removeprefix('coco/'): value for key, value in metrics.items()
                 if key.startswith('coco/')})


def _read_table(path: Path) -> list[dict[str, str]]:
    if not path.is_file():  # a row without masks
        return []
    with path.open(newline='') as file:
        return list(csv.DictReader(file))
