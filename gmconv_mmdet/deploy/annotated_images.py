"""A detector over the images of a COCO annotation file: its twelve metrics."""
from __future__ import annotations

import contextlib
import copy
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from mmdet.datasets.api_wrappers import COCOeval
from mmdet.evaluation import CocoMetric
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.utils import track_iter_progress
from torch.utils.data import DataLoader

from ..openmmlab.config_file import config_scope
from ..openmmlab.private_api import coco_eval_replaced

_STATISTICS = ('AP', 'AP50', 'AP75', 'APS', 'APM', 'APL', 'AR100', 'AR300', 'AR1000', 'ARS', 'ARM',
               'ARL')  # COCOeval's, in its order, with mmdet's limits on detections


def annotated_images(cfg: Config, annotations: str | Path, folder: str | Path) -> DataLoader:
    """Images with COCO annotations, one by one, prepared as a config's test pipeline does.

    Args:
        cfg (Config): a detector's, with a ``test_dataloader`` whose dataset reads a COCO file.
        annotations (str | Path): the COCO annotation file.
        folder (str | Path): the folder that its file names are in.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: the config's dataset is of another kind, or none of its classes is annotated.
    """
    for path in map(Path, (annotations, folder)):
        if not path.exists():
            raise FileNotFoundError(f'no calibration data at {path}')
    dataset = copy.deepcopy(cfg.get('test_dataloader', {}).get('dataset', {}))
    if 'ann_file' not in dataset or 'data_prefix' not in dataset:
        raise ValueError('calibration needs a config whose test_dataloader.dataset has ann_file and '
                         f'data_prefix, as CocoDataset has; got {dataset.get("type")!r}')
    dataset.update(ann_file=str(annotations), data_root='', test_mode=True, filter_cfg=None,
                   data_prefix=dict(img=str(folder)))
    with config_scope(cfg), contextlib.redirect_stdout(io.StringIO()):
        loader = Runner.build_dataloader(dict(
            batch_size=1, num_workers=0, dataset=dataset,
            sampler=dict(type='DefaultSampler', shuffle=False)))
    if not any(map(loader.dataset.get_cat_ids, range(len(loader.dataset)))):
        raise ValueError(f'{annotations} has no object of the config\'s classes '
                         f'{loader.dataset.metainfo["classes"][:5]}...')
    return loader


def coco_metrics(model: nn.Module, images: DataLoader,
                 beside: Callable[[torch.Tensor], None] | None = None) -> dict[str, float]:
    """Detect in every image and evaluate as mmdet does (pycocotools, at most 1000 detections).

    Args:
        model (nn.Module): a detector in evaluation mode.
        images (DataLoader): of :func:`annotated_images`.
        beside (Callable, optional): called with every preprocessed batch ``(1, 3, H, W)``.

    Returns:
        dict: ``'bbox AP'``, ... and for models with masks ``'segm AP'``, ..., in [0, 1],
        unrounded; -1 where no object is annotated, 0 where nothing was detected.
    """
    kinds = ['bbox', 'segm'] if getattr(model, 'with_mask', False) else ['bbox']
    found = {f'{kind} {name}': 0.0 for kind in kinds for name in _STATISTICS}

    class Unrounded(COCOeval):

        def summarize(self) -> None:
            super().summarize()
            found.update((f'{self.params.iouType} {name}', float(value))
                         for name, value in zip(_STATISTICS, self.stats))

    dataset: Any = images.dataset
    with contextlib.redirect_stdout(io.StringIO()):
        metric = CocoMetric(ann_file=dataset.ann_file, metric=kinds)
    metric.dataset_meta = dataset.metainfo
    with torch.no_grad():
        for batch in track_iter_progress((images, len(images)), file=sys.stderr):
            if beside is not None:
                beside(model.data_preprocessor(copy.deepcopy(batch), False)['inputs'])
            metric.process({}, [sample.to_dict() for sample in model.test_step(batch)])
    print(file=sys.stderr)
    with contextlib.redirect_stdout(io.StringIO()), coco_eval_replaced(Unrounded):
        metric.evaluate(len(dataset))
    return found
