"""What would break a run hours from now, found before its first iteration, all of it at once."""
from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from ...checkpoints.whole_checkpoint import is_whole_checkpoint
from ...pretrained import load_pretrained
from .variants import MASKED, backbone_weights

_CHECKPOINTS_AT_ONCE = 3  # a run keeps two and writes a third


class PreflightError(Exception):
    """Problems found before a run.

    Attributes:
        problems (list[str]): one sentence or two each: what, where, the way out.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        number = f'{len(self.problems)} problem{"s" if len(self.problems) > 1 else ""}'
        super().__init__(f'{number} found before the first iteration:\n' + '\n'.join(
            f'{i}. {problem}' for i, problem in enumerate(self.problems, 1)))


def check_training(cfg: Config) -> list[str]:
    """Whether a config trains and is evaluated in a way that the driver can follow."""
    problems = []
    if not isinstance(cfg.get('train_cfg'), dict) or not cfg.train_cfg.get('max_epochs'):
        problems.append('train_cfg has no max_epochs: the driver follows trainings by epochs '
                        '(EpochBasedTrainLoop), and resumes after the last whole one')
    evaluator = cfg.get('test_evaluator')
    metric = evaluator.get('metric', 'bbox') if isinstance(evaluator, dict) else ()
    if not (isinstance(evaluator, dict) and str(evaluator.get('type')).endswith('CocoMetric')
            and 'ann_file' in evaluator and 'bbox' in ([metric] if isinstance(metric, str)
                                                       else metric)):
        problems.append('test_evaluator is not one CocoMetric (or FastCocoMetric) with an ann_file '
                        'and metric=\'bbox\': AP by size is what is compared')
    return problems


def check_start(cfg: Config) -> list[str]:
    """The detector that a config starts from, where it is a local file."""
    start = cfg.get('load_from')
    if not start or '://' in str(start) or is_whole_checkpoint(Path(start)):
        return []
    return [f'load_from {start} is not there or cut short: train it first, or name another']


def check_weights(cfg: Config, name: str) -> list[str]:
    """The backbone's checkpoint, where it is a local file: loaded once, on the CPU."""
    source = backbone_weights(cfg)
    if source is None or '://' in source:
        return []
    backbone_cfg = cfg.model.backbone.copy()
    init = backbone_cfg.pop('init_cfg', None)
    if not isinstance(init, dict):
        return []  # in a backbone within a backbone: its own matter
    options = {key: init[key] for key in ('preserve', 'prefix', 'allow') if key in init}
    backbone = MODELS.build(dict(backbone_cfg, init_cfg=None))
    try:
        report = load_pretrained(backbone, source, **options)
    except (OSError, ValueError) as error:
        return [f'{name}: {error}']
    if backbone_cfg.type not in MASKED and (report.folded or report.approximated):
        return [f'{name} has no GMConv, but {source} holds a network with masks: the baseline would '
                'start from the method it is compared with. Name plain weights with '
                '--pretrained-plain']
    return []


def check_disk(work_root: Path, runs: int, cfg: Config) -> list[str]:
    """Room for the checkpoints of ``runs`` runs of about a config's size: weights and SGD's momentum
    in fp32. ``work_root`` need not exist."""
    place = work_root
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        return [f'{place} is not writable: name another folder for the runs']
    parameters = sum(p.numel() for p in MODELS.build(cfg.model).parameters())
    needed = 8 * parameters * _CHECKPOINTS_AT_ONCE * runs / 1e9
    free = shutil.disk_usage(place).free / 1e9
    if free < needed:
        return [f'{free:.1f} GB are free at {place}, the checkpoints of {runs} runs need '
                f'{needed:.1f} GB: free some, name another --work-root, or choose --rows']
    return []


def check_gpus(gpus: int) -> list[str]:
    """Whether the machine has the GPUs that were asked for."""
    found = torch.cuda.device_count()
    if gpus > found:
        return [f'--gpus {gpus}, but torch sees {found}. --gpus 0 uses the CPU; on several machines '
                'start the commands that --print-commands gives']
    return []
