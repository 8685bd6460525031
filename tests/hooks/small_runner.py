"""A detector's worth of MMEngine in miniature: a GM network, a data set that augments at random."""
from __future__ import annotations

import itertools

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner

from gmconv_mmdet.backbones import GMResNet

_COUNT = itertools.count()
IMAGES = 12
SIZE = 33


class SmallModel(BaseModel):
    """Classifies, with dropout: an iteration draws random numbers, as a detector's samplers do."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = GMResNet(18, base_channels=4, frozen_stages=-1, norm_eval=False,
                                 zero_init_residual=False, gm_cfg=dict(init_sigma=1.))
        self.fc = nn.Linear(32, 3)

    def forward(self, inputs, labels, mode='tensor'):
        scores = self.fc(F.dropout(self.backbone(inputs)[-1].mean((2, 3)), 0.3, self.training))
        if mode == 'loss':
            return dict(loss=F.cross_entropy(scores, labels))
        return [dict(score=row) for row in scores]


class RandomFlip:
    """Of numpy's, Python's and torch's generators each, as mmdet's transforms use them."""

    def __call__(self, sample):
        image = sample['image']
        if np.random.rand() < 0.5:
            image = image.flip(-1)
        return dict(inputs=image + 0.1 * torch.rand(1), labels=sample['label'])


class AsItIs:
    def __call__(self, sample):
        return dict(inputs=sample['image'], labels=sample['label'])


class SmallDataset(BaseDataset):
    METAINFO = dict(classes=('a', 'b', 'c'))

    def load_data_list(self):
        generator = torch.Generator().manual_seed(0)
        return [dict(image=torch.randn(3, SIZE, SIZE, generator=generator), label=i % 3)
                for i in range(IMAGES)]


class MeanScore(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [float(sample['score'].double().sum()) for sample in data_samples]

    def compute_metrics(self, results):
        return dict(score=float(np.mean(results)))


def loader(workers=0, shuffle=True, sampler='DefaultSampler', persistent=True, augment=True):
    return dict(batch_size=3, num_workers=workers, persistent_workers=persistent and workers > 0,
                sampler=dict(type=sampler, shuffle=shuffle),
                collate_fn=dict(type='default_collate'),
                dataset=dict(type=SmallDataset, serialize_data=False,
                             pipeline=[RandomFlip() if augment else AsItIs()]))


def small_runner(work_dir, max_epochs=3, max_iters=None, workers=0, persistent=True, hooks=(),
                 checkpoint=None, seed=0, resume=False, accumulative_counts=1, **options):
    """A runner over 12 images in batches of 3, by epochs or, with ``max_iters``, by iterations."""
    by_epoch = max_iters is None
    train_cfg = (dict(by_epoch=True, max_epochs=max_epochs, val_interval=1) if by_epoch else
                 dict(by_epoch=False, max_iters=max_iters, val_interval=4))
    return Runner(
        model=dict(type=SmallModel), work_dir=str(work_dir), train_cfg=train_cfg,
        train_dataloader=loader(workers, sampler='DefaultSampler' if by_epoch else
                                'InfiniteSampler', persistent=persistent),
        val_dataloader=loader(shuffle=False, augment=False), val_evaluator=[MeanScore()],
        val_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9),
                           accumulative_counts=accumulative_counts),
        param_scheduler=dict(type='CosineAnnealingLR', T_max=100, by_epoch=False),
        default_hooks=dict(checkpoint={
            'type': 'SafeCheckpointHook', 'by_epoch': by_epoch, 'interval': 1 if by_epoch else 2,
            **(checkpoint or {})}, logger=dict(type='LoggerHook', interval=1)),
        custom_hooks=list(hooks), randomness=dict(seed=seed), resume=resume,
        experiment_name=f'small{next(_COUNT)}',  # MMEngine keeps things by this name
        log_level='WARNING', default_scope='mmengine', visualizer=None, **options)
