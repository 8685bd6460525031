"""What would break a run hours from now, found before its first iteration, all of it at once."""
from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from mmdet.registry import MODELS
from mmengine.config import Config

from ...checkpoints.whole_checkpoint import is_whole_checkpoint
from ...preflight import datasets
from ...preflight.annotation_file import read_annotations
from ...preflight.classes import head_classes
from ...pretrained import load_pretrained
from .table import CocoFolder, backbone_weights

# A checkpoint holds weights and momentum in fp32: 4 x 2 bytes for 42, 69 (Cascade R-CNN) million
# parameters. A run keeps two and writes a third.
_CHECKPOINT_GB = {'faster-rcnn': 0.34, 'cascade-rcnn': 0.56}
_CHECKPOINTS_AT_ONCE = 3
_WAY_OUT = ('--data-root names the folder that holds annotations/ and the image folders; '
            '--train-annotations and --val-annotations name files of other names. With --config, '
            'correct its dataloaders', '--train-images and --val-images name folders of other names. '
            'With --config, correct its dataloaders')


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


def annotated_classes(data: CocoFolder) -> tuple[str, ...] | None:
    """The names of the categories that a data set is annotated with, in its order; None where its
    annotations can't be read."""
    content, _ = read_annotations(data.path('train_annotations'), _WAY_OUT[0])
    if content is None or not all(isinstance(entry, dict) for entry in content['categories']):
        return None
    return tuple(str(category.get('name')) for category in content['categories'])


def data_of(cfg: Config) -> str:
    """What :func:`check_data` looks at, to check each data set once."""
    return str([(loader.dataset, loader.batch_size) for loader in
                (cfg.train_dataloader, cfg.val_dataloader)] + list(head_classes(cfg.model)))


def check_data(cfg: Config, image_mode: str = 'sample',
               progress: Callable[[str, int, int], None] = lambda what, done, total: None,
               number_of_images: dict[str, int] | None = None,
               remark: Callable[[str], None] = lambda text: None) -> list[str]:
    """Annotation files, categories, heads and images, see
    :func:`gmconv_mmdet.preflight.datasets.check_data`.

    Args:
        cfg (Config): with ``train_dataloader`` and ``val_dataloader`` of a COCO-format data set.
        image_mode (str): 'sample' looks at the heads of 200 images, 'all' decodes every one.
        progress (Callable): called with (image folder, images done, images in total).
        number_of_images (dict[str, int], optional): that the two sets must have,
            :data:`~.table.COCO_2017_IMAGES` where the paper's tables are to be filled.
        remark (Callable): called with what mmdet passes over in silence, which is no problem.

    Returns:
        list[str]: all problems, empty where there is none.
    """
    def count(checked: datasets.CheckedSet) -> None:
        if checked.content is None or number_of_images is None:
            return
        found, wanted = len(checked.content['images']), number_of_images[checked.split]
        if found != wanted:
            checked.problems.append(f'{checked.path} has {found} images, COCO 2017\'s '
                                    f'{checked.split} set has {wanted}: another data set can\'t '
                                    'fill the paper\'s tables. --rehearse tries the machinery on '
                                    'any')
    return datasets.check_data(cfg, 'all' if image_mode == 'all' else 'heads', progress, remark,
                               count, lambda split: _WAY_OUT)


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


def check_weights(cfg: Config, row_name: str) -> list[str]:
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
        return [f'{row_name}: {error}']
    if backbone_cfg.type == 'ResNet' and (report.folded or report.approximated):
        return [f'{row_name} is a row without GMConv, but {source} holds a network with masks: the '
                'baseline would start from the method it is compared with. Name plain weights with '
                '--pretrained-plain']
    return []


def check_disk(work_root: Path, detectors: Sequence[str | None]) -> list[str]:
    """Room for the checkpoints of runs that are still to be made, as far as their size is known.

    Args:
        work_root (Path): where runs go; need not exist.
        detectors (Sequence): of each such run; None where it is not one of the tables'.
    """
    place = work_root
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        return [f'{place} is not writable: name another folder for the runs']
    needed = _CHECKPOINTS_AT_ONCE * sum(_CHECKPOINT_GB.get(detector, 0) for detector in detectors)
    free = shutil.disk_usage(place).free / 1e9
    if free < needed:
        return [f'{free:.1f} GB are free at {place}, the checkpoints of {len(detectors)} runs need '
                f'{needed:.1f} GB: free some, name another --work-root, or choose --rows']
    return []


def check_gpus(gpus: int, launcher: str) -> list[str]:
    """Whether the machine has the GPUs that were asked for. Slurm's are elsewhere."""
    if launcher == 'slurm':
        return [] if shutil.which('srun') else ['--launcher slurm needs Slurm\'s srun, which is '
                                                'not on PATH']
    import torch
    found = torch.cuda.device_count()
    if gpus > found:
        return [f'--gpus {gpus}, but torch sees {found}. --gpus 0 uses the CPU']
    return []
