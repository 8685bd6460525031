"""A detector over the images of a COCO annotation file: its twelve metrics."""
from __future__ import annotations

import contextlib
import copy
import io
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn as nn
from mmdet.datasets.api_wrappers import COCO, COCOeval
from mmdet.registry import METRICS
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.utils import track_iter_progress

from ..openmmlab.config_file import config_scope

_STATISTICS = ('AP', 'AP50', 'AP75', 'APS', 'APM', 'APL', 'AR100', 'AR300', 'AR1000', 'ARS', 'ARM',
               'ARL')  # COCOeval's, in its order, with the limits on detections set below


class AnnotatedImages:
    """Images with COCO annotations, prepared as a config's test pipeline does.

    Args:
        cfg (Config): a detector's, with a ``test_dataloader`` whose dataset reads a COCO file.
        annotations (str | Path): the COCO annotation file.
        folder (str | Path): the folder that its file names are in.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: the config's dataset is of another kind, or none of its classes is annotated.
    """

    def __init__(self, cfg: Config, annotations: str | Path, folder: str | Path) -> None:
        for path in map(Path, (annotations, folder)):
            if not path.exists():
                raise FileNotFoundError(f'no calibration data at {path}')
        dataset = copy.deepcopy(cfg.get('test_dataloader', {}).get('dataset', {}))
        if 'ann_file' not in dataset or 'data_prefix' not in dataset:
            raise ValueError('calibration needs a config whose test_dataloader.dataset has '
                             'ann_file and data_prefix, as CocoDataset has; got '
                             f'{dataset.get("type")!r}')
        dataset.update(ann_file=str(annotations), data_root='', test_mode=True, filter_cfg=None,
                       data_prefix=dict(img=str(folder)))
        self.cfg, self.annotations = cfg, str(annotations)
        with config_scope(cfg), contextlib.redirect_stdout(io.StringIO()):
            self.loader = Runner.build_dataloader(dict(
                batch_size=1, num_workers=0, dataset=dataset,
                sampler=dict(type='DefaultSampler', shuffle=False)))
        if not any(self.loader.dataset.get_cat_ids(i) for i in range(len(self.loader.dataset))):
            raise ValueError(f'{annotations} has no object of the config\'s classes '
                             f'{self.loader.dataset.metainfo["classes"][:5]}...')

    def __len__(self) -> int:
        return len(self.loader.dataset)

    def evaluate(self, model: nn.Module,
                 beside: Callable[[torch.Tensor], None] | None = None) -> dict[str, float]:
        """Detect in every image and evaluate as mmdet does (pycocotools, at most 1000 detections).

        Args:
            model (nn.Module): a detector in evaluation mode.
            beside (Callable, optional): called with every preprocessed batch ``(1, 3, H, W)``.

        Returns:
            dict: ``'bbox AP'``, ... and for models with masks ``'segm AP'``, ..., in [0, 1],
            unrounded; -1 where no object is annotated, 0 where nothing was detected.
        """
        kinds = ['bbox', 'segm'] if getattr(model, 'with_mask', False) else ['bbox']
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            with config_scope(self.cfg), contextlib.redirect_stdout(io.StringIO()):
                metric = METRICS.build(dict(
                    type='mmdet.CocoMetric', ann_file=self.annotations, metric=kinds,
                    format_only=True, outfile_prefix=f'{folder}/found'))
            metric.dataset_meta = self.loader.dataset.metainfo
            for batch in track_iter_progress((self.loader, len(self)), file=sys.stderr):
                if beside is not None:
                    beside(model.data_preprocessor(copy.deepcopy(batch), False)['inputs'])
                metric.process({}, [sample.to_dict() for sample in model.test_step(batch)])
            print(file=sys.stderr)
            with contextlib.redirect_stdout(io.StringIO()):
                metric.evaluate(len(self))
                truth = COCO(self.annotations)
                found = {kind: json.loads(Path(f'{folder}/found.{kind}.json').read_text())
                         for kind in kinds}
                return {name: value for kind in kinds
                        for name, value in self._statistics(truth, found[kind], kind).items()}

    def _statistics(self, truth: COCO, found: list[dict], kind: str) -> dict[str, float]:
        names = [f'{kind} {name}' for name in _STATISTICS]
        if not found:
            return dict.fromkeys(names, 0.0)
        evaluation = COCOeval(truth, truth.loadRes(found), kind)
        evaluation.params.catIds = self.loader.dataset.cat_ids
        evaluation.params.imgIds = [self.loader.dataset.get_data_info(i)['img_id']
                                    for i in range(len(self))]
        evaluation.params.maxDets = [100, 300, 1000]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return dict(zip(names, map(float, evaluation.stats[:len(_STATISTICS)])))
