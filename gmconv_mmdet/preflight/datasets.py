"""The data sets of a config: annotation files, classes, images, heads and evaluators."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.registry import DATASETS

from ..openmmlab.config_file import config_scope
from ..openmmlab.configured_size import configured_scale
from .annotation_file import check_entries, read_annotations, unknown_categories
from .boxes import check_format, left_out, numbered_zero, vanishing_images
from .classes import check_categories, check_heads, class_names, different_orders, label_order, misordered
from .image_files import check_images

SPLITS = ('train', 'val')
Progress = Callable[[str, int, int], None]


@dataclass
class CheckedSet:
    """What was found out about one data set of a config.

    Attributes:
        split: 'train', 'val' or 'test'.
        problems: one sentence or two each.
        remarks: what mmdet passes over in silence; no problems.
        path: of the annotation file, None where it is no COCO-format data set.
        content: of the annotation file; None where it can't be used.
        classes: names in the order of the labels, as far as they are known.
        ordered: whether their order is known too.
        named: names in the order of the config.
        nameless: what follows from a config without class names, where they are needed; the other
            sets mostly lack them too, so that :func:`check_together` says it once.
    """
    split: str
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    path: Path | None = None
    content: dict | None = None
    classes: tuple[str, ...] | None = None
    ordered: bool = False
    named: tuple[str, ...] = ()
    nameless: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """One line about a data set without problems; '' of one that was not looked into."""
        if self.content is None:
            return ''
        return (f'{len(self.content["images"])} images, {len(self.content["annotations"])} boxes, '
                f'{len(self.classes or ())} classes in {self.path}')


def dataset_parts(dataset: object) -> Iterator[dict]:
    """The data sets inside RepeatDataset, MultiImageMixDataset, ConcatDataset and their like."""
    if isinstance(dataset, dict):
        inner = dataset.get('dataset')
        several = dataset.get('datasets')
        if 'ann_file' not in dataset and isinstance(inner, dict):
            yield from dataset_parts(inner)
        elif 'ann_file' not in dataset and isinstance(several, (list, tuple)):
            for part in several:
                yield from dataset_parts(part)
        else:
            yield dataset


def check_sets(cfg: Config, split: str, image_mode: str = 'sample',
               progress: Progress = lambda what, done, total: None) -> list[CheckedSet]:
    """The data sets of one dataloader.

    Args:
        cfg (Config): of mmdet.
        split (str): 'train', 'val' or 'test'.
        image_mode (str): see :func:`~.image_files.check_images`.
        progress (Callable): called with (image folder, images done, images in total).
    """
    loader = cfg.get(f'{split}_dataloader')
    if not isinstance(loader, dict) or not isinstance(loader.get('dataset'), dict):
        return []
    with config_scope(cfg):
        return [_check_set(cfg, split, part, image_mode, progress)
                for part in dataset_parts(loader['dataset'])]


def _check_set(cfg: Config, split: str, dataset: dict, image_mode: str,
               progress: Progress) -> CheckedSet:
    result = CheckedSet(split)
    kind = dataset.get('type')
    with DATASETS.switch_scope_and_registry(None) as registry:
        cls = kind if isinstance(kind, type) else registry.get(str(kind))
    root = str(dataset.get('data_root') or '')
    if cls is None:
        result.problems.append(f'the {split} set is a {kind!r}, which no package has registered: '
                               'correct the type, or name its module in custom_imports')
        return result
    is_coco = issubclass(cls, CocoDataset) and all(
        getattr(cls, name) is getattr(CocoDataset, name)
        for name in ('load_data_list', 'parse_data_info'))
    if not is_coco or not dataset.get('ann_file') or '://' in root + str(dataset['ann_file']):
        result.remarks.append(f'the {split} set is a {cls.__name__}'
                              + ('' if dataset.get('ann_file') else ' without an ann_file')
                              + ': its files are not looked into')
        return result
    prefix = dataset.get('data_prefix') or {}
    if 'img' not in prefix:
        result.problems.append(f'the {split} set has no data_prefix with img, and {cls.__name__} '
                               'stops with KeyError: \'img\'. Write data_prefix=dict(img=FOLDER), '
                               'relative to data_root')
        return result
    result.path = Path(root) / dataset['ann_file']
    classes, problems = class_names(dataset, cls)
    result.problems += problems
    content, unreadable = read_annotations(
        result.path, f'Correct data_root or ann_file of {split}_dataloader')
    result.problems += unreadable
    if content is None:
        return result
    faults = check_entries(content, result.path)
    result.problems += faults
    if faults:
        return result  # what follows takes sound entries for granted
    result.content = content
    result.problems += unknown_categories(content, result.path)
    result.problems += check_format(content, result.path)
    result.remarks += left_out(content, result.path)
    if split != 'train':
        result.remarks += numbered_zero(content, result.path)
    scale, keep_ratio = configured_scale(cfg) or (None, False)
    if keep_ratio:
        result.problems += vanishing_images(content, result.path, scale)
    if not problems:
        named = 'classes' in (dataset.get('metainfo') or {})
        wrong = check_categories(content, result.path, classes, named)
        (result.problems if named else result.nameless).extend(wrong)
        # What the file has, where the config says nothing: heads are compared with what will be.
        names = [category['name'] for category in content['categories']]
        result.classes = (tuple(classes) if wrong and named else
                          label_order(content, names if wrong else classes))
        result.ordered = not (wrong and named)
        result.named = result.classes if wrong else tuple(classes)
    folder = Path(root) / prefix['img']
    result.problems += check_images(
        content, result.path, folder, f'Correct data_root or data_prefix of {split}_dataloader',
        image_mode, lambda done, total: progress(str(folder), done, total))
    return result


def check_together(cfg: Config, sets: Sequence[CheckedSet]) -> list[str]:
    """Data sets against each other and against the heads of the model."""
    known = [checked for checked in sets if checked.classes is not None]
    ordered = [checked for checked in known if checked.ordered]
    problems = [text for checked in sets for text in checked.nameless][:1]
    for first in ordered[:1]:
        problems += misordered(first.path, first.classes, first.named)
    for other in ordered[1:]:
        differ = different_orders(ordered[0].classes, other.classes)
        if differ:
            problems.append(f'{ordered[0].path} and {other.path} need the same classes in the same '
                            f'order, have {differ}: mmdet numbers labels by each file\'s order of '
                            'categories and would mix them up. Give both the same list '
                            '"categories", and metainfo the same classes')
    if known:
        problems += check_heads(cfg.model, known[0].classes)
    return problems


def check_evaluators(cfg: Config, splits: Sequence[str] = ('val', 'test')) -> list[str]:
    """Evaluators that compare with another annotation file than the data set's."""
    problems, seen = [], []
    for split in splits:
        loader, evaluators = cfg.get(f'{split}_dataloader'), cfg.get(f'{split}_evaluator')
        if (loader, evaluators) in seen:
            continue  # test_dataloader = val_dataloader
        seen.append((loader, evaluators))
        parts = list(dataset_parts(loader.get('dataset'))) if isinstance(loader, dict) else []
        if len(parts) != 1 or not parts[0].get('ann_file'):
            continue
        own = Path(str(parts[0].get('data_root') or '')) / parts[0]['ann_file']
        for evaluator in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
            file = evaluator.get('ann_file') if isinstance(evaluator, dict) else None
            if file and '://' not in file and Path(file).resolve() != own.resolve():
                problems.append(f'{split}_evaluator compares with {file}, but the {split} set is '
                                f'{own}: set {split}_evaluator.ann_file to that')
    return problems


def check_data(cfg: Config, image_mode: str = 'sample',
               progress: Progress = lambda what, done, total: None,
               remark: Callable[[str], None] = lambda text: None) -> list[str]:
    """Annotation files, categories, heads, evaluators and images of any mmdet config.

    Args:
        cfg (Config): with ``train_dataloader`` and ``val_dataloader`` of a COCO-format data set.
        image_mode (str): see :func:`~.image_files.check_images`.
        progress (Callable): called with (image folder, images done, images in total).
        remark (Callable): called with what mmdet passes over in silence, which is no problem.

    Returns:
        list[str]: all problems, empty where there is none.
    """
    sets = [checked for split in SPLITS for checked in check_sets(cfg, split, image_mode, progress)]
    for checked in sets:
        for text in checked.remarks:
            remark(text)
    problems = [problem for checked in sets for problem in checked.problems]
    return list(dict.fromkeys(problems + check_together(cfg, sets) + check_evaluators(cfg)))
