"""The config for a data set of one's own: a base and the difference."""
from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoints.checkpoint_file import read_checkpoint
from ..checkpoints.fetch import cache_path, resolve
from ..messages import shortened
from ..openmmlab.config_file import find_detector, find_key
from ..openmmlab.zoos import register_zoos
from ..receptive_field.fpn_assignment import assign_levels, resized_boxes, roi_assignment
from .advice import advise_anchors, advise_epochs, advise_scale
from .base_config import (
    Base,
    accepts,
    anchor_generators,
    anchor_sides,
    backbone_keys,
    base_scale,
    dataset_keys,
    dataset_of,
    has_key,
    wants_masks,
)
from .coco_files import AnnotatedSet, OwnDataError
from .config_text import Expression, assignment, comment

_DETECTOR_PARTS = ('neck.', 'rpn_head.', 'roi_head.', 'bbox_head.', 'mask_head.', 'encoder.',
                   'decoder.')


@dataclass(frozen=True)
class Options:
    """What a user decides; None is as advised, or as the base has it."""
    pretrained: str | None = None
    from_scratch: bool = False
    scale: tuple[int, int] | None = None
    batch_size: int | None = None
    epochs: int | None = None
    seed: int = 0


def config_text(base: Base, train: AnnotatedSet, val_annotations: Path, val_images: Path,
                options: Options, split_note: str = '') -> tuple[str, list[str]]:
    """A config's text, and remarks for whoever trains with it.

    Args:
        base: to start from.
        train: the training set; boxes and images are counted there.
        val_annotations: of the validation set.
        val_images: of the validation set.
        options: see :class:`Options`.
        split_note: how the data were divided, for a comment.

    Raises:
        OwnDataError: the base and the data do not fit together, or options contradict each other.
    """
    if options.pretrained and options.from_scratch:
        raise OwnDataError('--pretrained and --from-scratch contradict each other: give one')
    for name, number in (('--batch-size', options.batch_size), ('--epochs', options.epochs),
                         *(('--scale', side) for side in options.scale or ())):
        if number is not None and number < 1:
            raise OwnDataError(f'{name} is at least 1, got {number}')
    cfg = base.cfg
    _check_segmentations(cfg, train)
    model: dict[str, Any] = {}
    remarks = _remarks(train)
    set_classes(model, cfg.model)
    scale, scale_lines = _scale(base, train, options)
    anchor_reason = set_anchors(model, cfg, train, scale)
    start_lines, start_remarks = _start(model, base, options)
    imports = list((cfg.get('custom_imports') or {}).get('imports', []))
    lines = [assignment('_base_', base.reference)]
    if 'gmconv_mmdet' not in imports:
        lines += [comment('Registers what starts with GM, and lets torch >= 2.6 read MMEngine\'s '
                          'checkpoints.'),
                  assignment('custom_imports', dict(imports=imports + ['gmconv_mmdet'],
                                                    allow_failed_imports=False))]
    lines += ['', comment('Data. Without metainfo mmdet looks for COCO\'s 80 classes, finds no box '
                          'and stops with "need at least one array to concatenate". The order is '
                          'that of the categories in the annotation files.' + split_note),
              assignment('classes', train.classes),
              'num_classes = len(classes)',
              assignment('train_annotations', train.annotations.as_posix()),
              assignment('train_images', train.images.as_posix() + '/'),
              assignment('val_annotations', val_annotations.as_posix()),
              assignment('val_images', val_images.as_posix() + '/'), '', *scale_lines]
    batch_lines, batch_size = _batch(cfg, options)
    lines += [*_dataloaders(cfg, scale is not None and bool(scale_lines[1:]), batch_size), '',
              comment('Model. num_classes stands in every head: left at another number than '
                      'that of the classes, training or its evaluation ends in an IndexError. '
                      + anchor_reason),
              assignment('model', model), *start_lines, '', *batch_lines, *_mask_decay(cfg), '',
              *_schedule(cfg, train.annotated_images(), batch_size, options), '',
              comment('Makes runs comparable; another: --cfg-options randomness.seed=1'),
              assignment('randomness', dict(seed=options.seed))]
    return '\n'.join(lines) + '\n', remarks + start_remarks


def _put(tree: dict, keys: tuple | list, value: Any) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    tree[keys[-1]] = value


def set_classes(model: dict, base_model: Mapping) -> None:
    """``num_classes`` for every head of the base, lists of heads (cascades) included.

    Args:
        model: the difference to the base's model; written to.
        base_model: the base's.
    """
    number = Expression('num_classes')
    done = set()
    for keys, _ in find_key(base_model, 'num_classes'):
        if any(key in ('backbone', 'train_cfg', 'test_cfg') for key in keys):
            continue
        where = next((i for i, key in enumerate(keys) if isinstance(key, int)), None)
        if where is None:
            _put(model, (*keys, 'num_classes'), number)
            continue
        place = keys[:where]
        if place in done:
            continue
        done.add(place)
        heads: Any = base_model
        for key in place:
            heads = heads[key]
        if all(isinstance(head, Mapping) and 'num_classes' in head for head in heads):
            value: Any = Expression('[dict(head, num_classes=num_classes) for head in '
                                    f'_base_.model.{".".join(place)}]')
        else:
            value = _plain(heads)
            for inner, _ in find_key(value, 'num_classes'):
                node = value
                for key in inner:
                    node = node[key]
                node['num_classes'] = number
        _put(model, place, value)


def set_anchors(model: dict, cfg: Any, train: AnnotatedSet, scale: tuple[int, int] | None) -> str:
    """Anchors as advised, and the levels that boxes are pooled from; returns the reason.

    Args:
        model: the difference to the base's model; written to.
        cfg: the base.
        train: the boxes.
        scale: ``(W, H)`` of the images; None leaves the anchors alone.
    """
    generators = anchor_generators(cfg)
    if scale is None or not generators:
        return ('Anchors stay the base\'s.' if has_key(cfg.model, 'anchor_generator')
                else 'There are no anchors.')
    sizes = resized_boxes(train.content, scale)
    reasons = []
    for keys, generator in generators:
        advice = advise_anchors(sizes, *anchor_sides(generator), generator['ratios'])
        reasons.append(advice.reason)
        changed: dict[str, Any] = {}
        if advice.factor != 1:
            name = 'octave_base_scale' if generator.get('octave_base_scale') else 'scales'
            value = generator[name]
            changed[name] = (_times(value, advice.factor) if name == 'octave_base_scale' else
                             [_times(item, advice.factor) for item in value])
        if advice.elongated:
            changed['ratios'] = [0.25, 0.5, 1.0, 2.0, 4.0]
        for key, value in changed.items():
            _put(model, (*keys, key), value)
        levels, finest = roi_assignment(cfg)
        if levels and advice.factor != 1:
            for place, extractor in find_key(cfg.model, 'featmap_strides'):
                if not any(isinstance(key, int) for key in place):
                    _put(model, (*place, 'finest_scale'),
                         _times(extractor.get('finest_scale', finest), advice.factor))
            finest = _times(finest, advice.factor)
        if levels:
            shares = np.bincount(assign_levels(sizes, levels, finest), minlength=levels) / len(sizes)
            reasons.append('The box head pools ' + ', '.join(
                f'{share:.0%}' for share in shares) + ' of the boxes from its levels, finest first'
                + (f' (finest_scale {finest:g}, changed with the anchors).'
                   if advice.factor != 1 else '.'))
    return ' '.join(dict.fromkeys(reasons))


def _times(value: float, factor: float) -> float:
    product = value * factor
    return int(product) if product == int(product) else product


def _scale(base: Base, train: AnnotatedSet,
           options: Options) -> tuple[tuple[int, int] | None, list[str]]:
    """The scale that images have, and lines for the config: more than one where it is changed."""
    own = base_scale(base.cfg)
    if own is None:
        if options.scale:
            raise OwnDataError('--scale: the base\'s pipelines don\'t resize in one plain Resize '
                               'step of one scale; change them by hand')
        return None, [comment('The base\'s pipelines resize in more than one way: they stay as '
                              'they are.')]
    if options.scale:
        wanted, reason = options.scale, 'The scale that was asked for.'
    else:
        advice = advise_scale(np.sqrt(resized_boxes(train.content, own).prod(1)), own)
        wanted, reason = advice.size, advice.reason
    text = comment('Image scale. ' + reason)
    return wanted, [text] if wanted == own else [text, assignment('scale', wanted)]


def _dataloaders(cfg: Any, rescaled: bool, batch_size: int) -> list[str]:
    lines = []
    for split in ('train', 'val', 'test'):
        keys = dataset_keys(cfg, split)
        base = dataset_of(cfg, split)
        if split == 'test' and base == dataset_of(cfg, 'val') and keys == dataset_keys(cfg, 'val'):
            lines.append('test_dataloader = val_dataloader')
            continue
        part = 'train' if split == 'train' else 'val'
        metainfo: dict[str, Any] = dict(classes=Expression('classes'))
        if base.get('metainfo'):
            metainfo = dict(_delete_=True, **metainfo)
        dataset: dict[str, Any] = {}
        if str(base.get('type')).rpartition('.')[2] != 'CocoDataset':
            dataset['type'] = 'CocoDataset'
        dataset.update(data_root='', metainfo=metainfo,
                       ann_file=Expression(f'{part}_annotations'),
                       data_prefix=dict(img=Expression(f'{part}_images')))
        if rescaled:
            path = '.'.join([f'_base_.{split}_dataloader', *keys, 'pipeline'])
            dataset['pipeline'] = Expression(
                '[\n    dict(step, scale=scale) if step[\'type\'] == \'Resize\' else step\n'
                f'    for step in {path}]')
        loader: Any = dataset
        for key in reversed(keys):
            loader = {key: loader}
        if split == 'train':
            loader = dict(batch_size=batch_size, **loader)
        lines.append(assignment(f'{split}_dataloader', loader))
    for split in ('val', 'test'):
        if split == 'test' and cfg.get('test_evaluator') == cfg.get('val_evaluator'):
            lines.append('test_evaluator = val_evaluator')
            continue
        evaluator = cfg.get(f'{split}_evaluator')
        is_coco = isinstance(evaluator, Mapping) and str(evaluator.get('type')).endswith('CocoMetric')
        value: dict[str, Any] = dict(ann_file=Expression('val_annotations'))
        if not is_coco:
            value = dict(type='CocoMetric', metric='bbox', **value)
            if evaluator is not None:
                value = dict(_delete_=True, **value)
        lines.append(assignment(f'{split}_evaluator', value))
    return lines


def _start(model: dict, base: Base, options: Options) -> tuple[list[str], list[str]]:
    """The backbone's start in ``model``, lines for the config, remarks."""
    keys = backbone_keys(base.cfg)
    backbone: Any = base.cfg.model
    for key in keys:
        backbone = backbone[key]
    outer = keys[:-1] if keys[-2:] == ['backbone', 'backbone'] else keys
    if options.from_scratch:
        _put(model, (*outer, 'init_cfg'), None)
        if outer != keys:
            _put(model, (*keys, 'init_cfg'), None)
        if backbone.get('pretrained') or base.cfg.model.get('pretrained'):
            raise OwnDataError('the base sets "pretrained", which mmdet 3 replaced by init_cfg: '
                               'change it there')
        for argument, value in (('frozen_stages', -1), ('norm_eval', False)):
            if accepts(base.cfg, backbone, argument):
                _put(model, (*keys, argument), value)
        if (backbone.get('norm_cfg') or {}).get('requires_grad') is False:
            _put(model, (*keys, 'norm_cfg', 'requires_grad'), True)
        return [comment('From scratch: init_cfg=None loads no weights, so no stage may be frozen '
                        '(frozen_stages=-1) and BatchNorm has no statistics yet to be kept '
                        '(norm_eval=False); give it 8 images a GPU or more, if the memory '
                        'allows.')], []
    if options.pretrained:
        return _pretrained(model, outer, options.pretrained)
    whole = find_detector(base.cfg.model)[1]['backbone']
    source = next((init['checkpoint'] for _, init in find_key(whole, 'checkpoint')), None)
    if source is None:
        return [comment('The base names no start weights: all starts at random, unless load_from '
                        'is set.')], []
    return [comment(f'Starts from the base\'s weights, {source}.')], _not_here(source)


def _pretrained(model: dict, outer: list[str], source: str) -> tuple[list[str], list[str]]:
    is_file = '://' not in source
    if is_file:
        path = Path(source).expanduser().absolute()
        if not path.is_file():
            raise OwnDataError(f'--pretrained: no file {path}. A file, a link, or a name such as '
                               'torchvision://resnet50 is wanted')
        source = path.as_posix()
    else:
        register_zoos()
        resolve(source)  # an unknown name is an error now
    _put(model, (*outer, 'init_cfg'), dict(_delete_=True, type='GMPretrained', checkpoint=source))
    lines = [comment('GMPretrained reads torchvision\'s, timm\'s, mmpretrain\'s, mmdet\'s and this '
                     'project\'s layouts, and accounts for every tensor in the log.')]
    if is_file:
        content = read_checkpoint(source)
        names = list(content.get('state_dict', content))
        if any(name.startswith('backbone.') for name in names) and any(
                name.startswith(_DETECTOR_PARTS) for name in names):
            lines += [comment('The checkpoint is a detector\'s: neck and heads start from it too. '
                              'What depends on the number of classes starts anew, and the log says '
                              'so ("size mismatch").'),
                      assignment('load_from', source)]
    return lines, _not_here(source)


def _not_here(source: str) -> list[str]:
    """What to do about start weights that are still to be downloaded."""
    if '://' not in source:
        return [] if Path(source).expanduser().is_file() else [
            f'the start weights {source} are not there: training will stop at once. Give '
            '--pretrained FILE or --from-scratch']
    register_zoos()
    link = resolve(source)
    kept = cache_path(link)
    return [] if kept.is_file() else [
        f'training starts by downloading {source}. Without internet: fetch {link} elsewhere and '
        f'put it at {kept}, or give --pretrained FILE, or --from-scratch']


def _batch(cfg: Any, options: Options) -> tuple[list[str], int]:
    batch_size = options.batch_size or cfg.train_dataloader.get('batch_size') or 2
    base_batch = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    rate = ((cfg.get('optim_wrapper') or {}).get('optimizer') or {}).get('lr')
    if not base_batch or not rate:
        return [comment('Learning rate: the base doesn\'t say for which batch it is meant: check '
                        f'it for yours, {batch_size} images a GPU.')], batch_size
    return [comment(f'Learning rate: the base\'s {rate:g} is meant for {base_batch} images a step. '
                    'Linear rule (Goyal et al. 2017): MMEngine multiplies it by the images that a '
                    f'step really has / {base_batch}, with one GPU to '
                    f'{rate * batch_size / base_batch:g}.'),
            assignment('auto_scale_lr', dict(enable=True))], batch_size


def _mask_decay(cfg: Any) -> list[str]:
    """No weight decay on masks, where the base has masks and says nothing of them itself."""
    masked = any(part['type'] in ('GMResNet', 'GMBackbone', 'GMConv')
                 for _, part in find_key(cfg.model, 'type'))
    optimization = cfg.get('optim_wrapper') or {}
    keys = (optimization.get('paramwise_cfg') or {}).get('custom_keys') or {}
    # MMEngine takes the longest key that matches: beside one for the backbone 'sigma' is ignored.
    if not masked or optimization.get('constructor') or any(
            'sigma' in key or 'backbone' in key for key in keys):
        return []
    return ['', comment('Masks: weight decay pulls every sigma towards 0, whatever the data say, and '
                        'moved those of static masks further than gradients did '
                        '(docs/results.md). Without this line: the paper\'s recipe.'),
            assignment('optim_wrapper', dict(paramwise_cfg=dict(
                custom_keys=dict(sigma=dict(decay_mult=0)))))]


def _schedule(cfg: Any, images: int, batch_size: int, options: Options) -> list[str]:
    loop = cfg.get('train_cfg') or {}
    schedulers = cfg.get('param_scheduler') or []
    schedulers = [schedulers] if isinstance(schedulers, Mapping) else schedulers
    hooks = [str(hook.get('type')) for hook in cfg.get('custom_hooks') or []]
    fixed = [hook for hook in hooks if 'Switch' in hook]
    if not loop.get('max_epochs') or fixed:
        if options.epochs:
            raise OwnDataError('--epochs: the base counts in iterations, or switches something '
                               'between epochs; change its schedule by hand')
        why = f'has {", ".join(fixed)}' if fixed else 'counts in iterations'
        return [comment(f'Schedule: the base {why}, so its length stays. Check it for {images} '
                        'images.')]
    epochs, reason = advise_epochs(images, options.from_scratch)
    if options.epochs:
        epochs, reason = options.epochs, 'The number of epochs that was asked for.'
    interval = max(1, epochs // 12)
    steps = ceil(images / batch_size)
    scaled = [_scaled(_plain(item), epochs / loop['max_epochs'], epochs, epochs * steps)
              for item in schedulers]
    lines = [comment(f'Length. {reason} An epoch has {steps} steps with one GPU. Evaluated about '
                     'twelve times. The learning rate falls where it falls in the base, in '
                     'proportion; warm-up takes a tenth of the steps at most.'),
             assignment('train_cfg', dict(max_epochs=epochs, val_interval=interval))]
    if scaled:
        lines.append(assignment('param_scheduler', scaled))
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint')
    if isinstance(checkpoint, Mapping):
        lines.append(assignment('default_hooks', dict(checkpoint=dict(
            interval=interval, max_keep_ckpts=2, save_best='coco/bbox_mAP'))))
    return lines


def _scaled(item: dict, factor: float, epochs: int, steps: int) -> dict:
    if item.get('by_epoch', True):
        for key in ('begin', 'end', 'T_max'):
            if item.get(key):
                item[key] = min(epochs, max(1, round(item[key] * factor)))
        if 'milestones' in item:
            item['milestones'] = sorted({max(1, round(m * factor)) for m in item['milestones']})
    elif item.get('end'):
        item['end'] = min(item['end'], max(1, steps // 10))
    return item


def _check_segmentations(cfg: Any, train: AnnotatedSet) -> None:
    without = sum(not box.get('segmentation') for box in train.boxes())
    if wants_masks(cfg) and without:
        raise OwnDataError(f'the base learns masks, and {without} annotations of '
                           f'{train.annotations.name} have no segmentation: take a base that '
                           'detects boxes, such as configs/gmconv/faster-rcnn_*')


def _remarks(train: AnnotatedSet) -> list[str]:
    found = []
    boxes = train.boxes()
    counts = Counter(box['category_id'] for box in boxes)
    rare = [c['name'] for c in train.content['categories'] if counts[c['id']] == 0]
    if rare:
        found.append(f'{len(rare)} classes have no box in {train.annotations.name} and can\'t be '
                     f'learnt: {shortened(rare)}')
    empty = len(train.content['images']) - train.annotated_images()
    if empty:
        found.append(f'{empty} images have no box: mmdet leaves them out of training, unless '
                     'train_dataloader.dataset.filter_cfg.filter_empty_gt=False')
    most = max(Counter(box['image_id'] for box in boxes).values())
    if most > 100:
        found.append(f'an image has {most} boxes, mmdet keeps and COCO\'s AP counts 100 an image')
    return found


def _plain(value: Any) -> Any:
    """Dicts in place of ConfigDicts, without MMEngine's note of the scope they came from."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if key != '_scope_'}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return copy.deepcopy(value)
