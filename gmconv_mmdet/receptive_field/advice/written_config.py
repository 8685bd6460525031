"""A config that differs from the analysed one by an advised change."""
from __future__ import annotations

import os
import pprint
import textwrap
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ...backbones import edited  # registers EditedBackbone
from ...openmmlab.config_file import find_detector
from ...openmmlab.mim_files import shipped
from ...openmmlab.plain_backbone import type_name
from .advise import Advice
from .changes import Change
from .output_strides import changed_strides


class _Expression(str):
    """Stands in the config as it is."""

    __repr__ = str.__str__


def write_config(source: str | Path, cfg: Config, original: Advice, advice: Advice,
                 target: str | Path) -> None:
    """Write a config that is ``source`` with a change of its backbone, and with the strides of
    anchors and RoI extractors that follow. The backbone itself stays a reference to the base's.

    Args:
        source: the config file that was analysed.
        cfg: its content.
        original: the config as it is, first of :func:`~.config_changes.advise_config`'s list.
        advice: the change, from the same list.
        target: the file to write.

    Raises:
        FileExistsError: if ``target`` exists.
    """
    path, detector = find_detector(cfg['model'])
    strides, by_hand = changed_strides(cfg, original.levels, advice.levels)
    model: dict[str, Any] = dict(
        backbone=_backbone(advice.change, detector['backbone'], '.'.join(('model', *path))), **strides)
    for key in reversed(path):
        model = {key: model}
    imports = list((cfg.get('custom_imports') or {}).get('imports', []))
    imports += [name for name in ('gmconv_mmdet', edited.__name__) if name not in imports]
    notes = [f'{advice.change.description}, written by tools/analysis_tools/analyze_rf.py.',
             advice.change.note]
    if strides:
        notes.append('Strides of anchors and RoI extractors are those of the new maps.')
    if by_hand:
        notes.append(f'The maps\' strides change; set by hand: {", ".join(by_hand)}.')
    lines = [f'# {line}' for line in textwrap.wrap(' '.join(filter(None, notes)), 98)]
    for name, value in (('_base_', _base(Path(source).resolve(), Path(target).resolve())),
                        ('custom_imports', dict(imports=imports, allow_failed_imports=False)),
                        ('model', model)):
        lines.append(f'{name} = {pprint.pformat(value, width=96, sort_dicts=False)}')
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    with open(target, 'x', encoding='utf-8') as file:
        file.write('\n'.join(lines) + '\n')


def _backbone(change: Change, backbone: Any, detector: str) -> dict[str, Any]:
    """The difference to the base's backbone."""
    if not change.edits:
        return dict(change.options)
    if type_name(backbone) == 'EditedBackbone':
        return dict(change.options, edits=dict(change.edits))
    base = f'_base_.{detector}.backbone'
    options = ''.join(f', {name}={value!r}' for name, value in change.options.items())
    return dict(type='EditedBackbone', edits=dict(change.edits), _delete_=True,
                backbone=_Expression(f'dict({base}{options})'))


def _base(source: Path, target: Path) -> str:
    """A relative path, or ``mmdet::...`` for a config that MMDetection ships."""
    configs = shipped('configs', 'mmdet').resolve()
    if configs in source.parents:
        return f'mmdet::{source.relative_to(configs).as_posix()}'
    return Path(os.path.relpath(source, target.parent)).as_posix()
