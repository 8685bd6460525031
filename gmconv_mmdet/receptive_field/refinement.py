"""Changes of one hyper-parameter that bring a backbone's receptive field in line with its input.

The advice of arXiv 2211.14487: where the network's smallest useful input lies above the images that
it gets, let the field grow more slowly, by a smaller stem or by leaving out a downsampling. Every
change here is a new ``backbone`` config, so that what is advised is what builds.
"""

from __future__ import annotations

import copy
import inspect
import os
import pprint
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import mmdet
from mmengine.config import Config
from mmengine.registry import MODELS

from gmconv_mmdet.backbones import edited  # registers EditedBackbone

from ..openmmlab.config_file import config_scope, find_detector, has_environment_variables
from ..openmmlab.configured_network import build_extractor
from ..openmmlab.plain_backbone import plain_backbone
from .analyze import LayerField, Report, analyze
from .field_trace import ReceptiveFieldError

SMALL_SIGMA = 0.7
"""Leaves a 7x7 kernel about as wide as a plain 3x3 one (``masked_extent`` 2.6)."""


@dataclass(frozen=True)
class Change:
    """A backbone config that differs from the original in one hyper-parameter.

    ``name`` is what ``--change`` takes; ``note`` says what else follows from it.
    """
    name: str
    description: str
    backbone: Dict[str, Any]
    note: str = ''


@dataclass(frozen=True)
class Advice:
    """A change and what the analysis says of it; ``report`` is None where it can't run."""
    change: Change
    report: Optional[Report]
    error: str = ''


def propose(backbone: Mapping[str, Any], report: Report) -> List[Change]:
    """The changes that apply to a backbone.

    Args:
        backbone: its config.
        report: the analysis of the backbone alone, layer names as in the backbone.
    """
    backbone = _plain(backbone)
    return (_stem_changes(backbone, report) + _pooling_changes(backbone, report)
            + _stride_changes(backbone, report) + _mask_changes(backbone))


def advise(cfg: Config, input_size: Tuple[int, int]) -> List[Advice]:
    """Analyse the configured backbone and every change of it at one input size.

    The first row is the config as it is. The neck is left out: it changes neither the interval of
    useful sizes nor which layers are unproductive.
    """
    _, detector = find_detector(cfg['model'])
    original = Change('as-is', 'the config as it is', _plain(detector['backbone']))
    first = evaluate(cfg, original, input_size)
    if first.report is None:
        raise ReceptiveFieldError(first.error)
    with config_scope(cfg):
        changes = propose(original.backbone, first.report)
    return [first] + [evaluate(cfg, change, input_size) for change in changes]


def evaluate(cfg: Config, change: Change, input_size: Tuple[int, int]) -> Advice:
    """Build a changed backbone and analyse it."""
    try:
        network = build_extractor(cfg, change.backbone, with_neck=False).backbone
        return Advice(change, analyze(network, input_size))
    except ReceptiveFieldError as error:
        return Advice(change, None, str(error))


def written_config(source: Union[str, Path], cfg: Config, change: Change,
                   target: Union[str, Path]) -> str:
    """The text of a config at ``target`` that is ``source`` with the change.

    Args:
        source: the config file that was analysed.
        cfg: its content.
    """
    path, detector = find_detector(cfg['model'])
    backbone: Dict[str, Any] = dict(change.backbone)
    if has_environment_variables(cfg):
        backbone = _referring(backbone, _plain(detector['backbone']),
                              '.'.join(('model', *path, 'backbone')))
    backbone['_delete_'] = True
    model: Dict[str, Any] = dict(backbone=backbone)
    for key in reversed(path):
        model = {key: model}
    imports = list((cfg.get('custom_imports') or {}).get('imports', []))
    imports += [name for name in ('gmconv_mmdet', edited.__name__) if name not in imports]
    comment = f'{change.description}, written by tools/analysis_tools/analyze_rf.py. {change.note}'
    lines = [f'# {line}' for line in textwrap.wrap(comment, 98)]
    lines += [f'_base_ = {_base(source, target)!r}',
              f'custom_imports = {_literal(dict(imports=imports, allow_failed_imports=False))}',
              f'model = {_literal(model)}']
    return '\n'.join(lines) + '\n'


def write_config(source: Union[str, Path], cfg: Config, change: Change,
                 target: Union[str, Path]) -> None:
    """Write :func:`written_config`; an existing file is never overwritten.

    Raises:
        FileExistsError: if ``target`` exists.
    """
    text = written_config(source, cfg, change, target)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    with open(target, 'x', encoding='utf-8') as file:
        file.write(text)


def _base(source: Union[str, Path], target: Union[str, Path]) -> str:
    """A relative path, or ``mmdet::...`` for a config that MMDetection ships."""
    shipped = Path(mmdet.__file__).resolve().parent / '.mim' / 'configs'
    source = Path(source).resolve()
    if shipped in source.parents:
        return f'mmdet::{source.relative_to(shipped).as_posix()}'
    return Path(os.path.relpath(source, Path(target).resolve().parent)).as_posix()


def _literal(value: Any) -> str:
    return pprint.pformat(value, width=96, sort_dicts=False)


class _OfBase(str):
    """The name of a value of the base config; prints as MMEngine's reference to it."""

    def __repr__(self) -> str:
        return '{{_base_.%s}}' % self


def _referring(value: Mapping[str, Any], original: Mapping[str, Any],
               name: str) -> Dict[str, Any]:
    """A changed backbone with references in place of what it has from the original one, so that
    environment variables are read when the written config is."""
    written = {}
    for key, item in value.items():
        there = original.get(key)
        if item == original:
            written[key] = _OfBase(name)
        elif key in original and item == there and key != 'type':
            written[key] = _OfBase(f'{name}.{key}')
        elif isinstance(item, Mapping) and key == 'backbone' and key not in original:
            written[key] = _referring(item, original, name)  # wrapped by the change
        elif isinstance(item, Mapping) and isinstance(there, Mapping):
            written[key] = _referring(item, there, f'{name}.{key}')
        else:
            written[key] = item
    return written


def _plain(value: Any) -> Any:
    """ConfigDicts as plain dicts, so that they print as literals."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return copy.deepcopy(value)


def _edit(backbone: Dict[str, Any], edits: Dict[str, Any]) -> Dict[str, Any]:
    """The backbone with layer edits, on top of those that it has already."""
    if backbone['type'] == 'EditedBackbone':
        return dict(backbone, edits={**backbone['edits'], **edits})
    return dict(type='EditedBackbone', edits=edits, backbone=backbone)


def _unfrozen(backbone: Dict[str, Any]) -> Dict[str, Any]:
    """A stem whose weights start afresh has to learn."""
    if backbone.get('frozen_stages', _default(backbone, 'frozen_stages')) in (None, -1):
        return backbone
    return dict(backbone, frozen_stages=-1)


def _default(backbone: Mapping[str, Any], name: str) -> Any:
    """A constructor's default, None if it has no such argument."""
    with MODELS.switch_scope_and_registry(backbone.get('_scope_')) as registry:
        built = registry.get(plain_backbone(backbone)['type'])
    for cls in inspect.getmro(built) if inspect.isclass(built) else ():
        found = inspect.signature(cls.__init__).parameters.get(name)
        if found is not None:
            return None if found.default is inspect.Parameter.empty else found.default
    return None


def _first(report: Report, kind: str) -> Optional[Tuple[str, LayerField]]:
    return next(((n, l) for n, l in report.layers.items() if l.kind == kind), None)


_FRESH = 'The new weights of {} start at random: no checkpoint of the original stem fits them.'
_STRIDES = 'The strides of the output maps change: set those of anchors and RoI extractors alike.'


def _stem_changes(backbone: Dict[str, Any], report: Report) -> List[Change]:
    stem = _first(report, 'convolution')
    if stem is None or '#' in stem[0] or stem[1].kernel is None:
        return []
    name, layer = stem
    changes = []
    fresh = _unfrozen(backbone)
    if max(layer.kernel) > 3 and max(layer.stride) < min(layer.kernel):
        changes.append(Change('stem-kernel-3', f'stem {name}: kernel {layer.kernel[0]} -> 3',
                              _edit(fresh, {name: dict(kernel_size=3)}), _FRESH.format(name)))
    if max(layer.stride) > 1:
        changes.append(Change('stem-stride-1', f'stem {name}: stride {layer.stride[0]} -> 1',
                              _edit(backbone, {name: dict(stride=1)}), _STRIDES))
    pool = _first(report, 'pooling')
    edits = {name: dict(kernel_size=3, stride=1)}
    local = [n for n, l in report.layers.items()
             if l.kind in ('convolution', 'pooling') and not l.is_global]
    if pool is not None and local[:2] == [name, pool[0]]:   # pools what the stem gives
        edits[pool[0]] = None
    if len(changes) == 2 or (changes and len(edits) == 2):
        changes.append(Change(
            'small-image-stem', f'stem {name}: 3x3, stride 1' + (
                ', without pooling' if len(edits) == 2 else ''),
            _edit(fresh, edits), f'{_FRESH.format(name)} {_STRIDES}'))
    if backbone.get('deep_stem', _default(backbone, 'deep_stem')) is False:
        changes.append(Change('deep-stem', 'stem: three 3x3 convolutions for one 7x7',
                              dict(fresh, deep_stem=True), _FRESH.format('the stem')))
    return changes


def _pooling_changes(backbone: Dict[str, Any], report: Report) -> List[Change]:
    return [Change(f'no-{name}', f'{name}: taken out', _edit(backbone, {name: None}), _STRIDES)
            for name, layer in report.layers.items()
            if layer.kind == 'pooling' and max(layer.stride) > 1 and '#' not in name
            and ':' not in name]


def _stride_changes(backbone: Dict[str, Any], report: Report) -> List[Change]:
    """A stage's stride to 1: by the backbone's own ``strides``, else in each of its layers."""
    strides = backbone.get('strides', _default(backbone, 'strides'))
    if isinstance(strides, (list, tuple)) and 'depth' in backbone:
        strides = tuple(strides)[:backbone.get('num_stages') or len(strides)]
        return [Change(f'stage-{i + 1}-stride-1', f'stage {i + 1}: stride {stride} -> 1',
                       dict(backbone, strides=strides[:i] + (1,) + strides[i + 1:]), _STRIDES)
                for i, stride in enumerate(strides) if stride > 1]
    by_jump: Dict[Any, Dict[str, Any]] = {}
    for name, layer in list(report.layers.items())[1:]:
        if layer.kind == 'convolution' and max(layer.stride) > 1 and not {'#', ':'} & set(name):
            by_jump.setdefault(layer.jump[0], {})[name] = dict(stride=1)
    return [Change(f'stride-{jump}-to-1', f'convolutions that bring the jump to {jump}: stride 1',
                   _edit(backbone, edits), _STRIDES)
            for jump, edits in by_jump.items()]


def _mask_changes(backbone: Dict[str, Any]) -> List[Change]:
    """A narrow Gaussian mask on the stem: the theoretical field stays, the effective one
    shrinks."""
    kind = str(backbone['type']).rpartition('.')[2]
    if kind != 'ResNet' or backbone.get('deep_stem') or backbone.get('conv_cfg'):
        return []
    masked = dict(backbone, type='mmdet.GMResNet', gm_stem='static', freeze_masks=False,
                  gm_stages=(False,) * backbone.get('num_stages', 4),
                  gm_cfg=dict(init_sigma=SMALL_SIGMA))
    return [Change('gm-stem', f'stem with a Gaussian mask of sigma {SMALL_SIGMA}', masked,
                   'The mask changes the effective field only, never the theoretical one.')]
