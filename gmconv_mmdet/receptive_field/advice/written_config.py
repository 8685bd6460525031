"""A config that differs from the analysed one by an advised change."""
from __future__ import annotations

import os
import pprint
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmdet
from mmengine.config import Config

from gmconv_mmdet.backbones import edited  # registers EditedBackbone

from ...openmmlab.config_file import find_detector, has_environment_variables
from .config_changes import plain
from .output_strides import changed_strides
from .ranking import Advice


def written_config(source: str | Path, cfg: Config, original: Advice, advice: Advice,
                   target: str | Path) -> str:
    """The text of a config at ``target`` that is ``source`` with a change of its backbone, and with
    the strides of anchors and RoI extractors that follow.

    Args:
        source: the config file that was analysed.
        cfg: its content.
        original: the config as it is, first of :func:`~.config_changes.advise_config`'s list.
        advice: the change, from the same list.
        target: where the config will lie.
    """
    change = advice.change
    path, detector = find_detector(cfg['model'])
    backbone: dict[str, Any] = dict(change.backbone)
    if has_environment_variables(cfg):
        backbone = _referring(backbone, plain(detector['backbone']),
                              '.'.join(('model', *path, 'backbone')))
    backbone['_delete_'] = True
    strides, by_hand = changed_strides(cfg, original.levels, advice.levels)
    model: dict[str, Any] = dict(backbone=backbone, **strides)
    for key in reversed(path):
        model = {key: model}
    imports = list((cfg.get('custom_imports') or {}).get('imports', []))
    imports += [name for name in ('gmconv_mmdet', edited.__name__) if name not in imports]
    notes = [f'{change.description}, written by tools/analysis_tools/analyze_rf.py.', change.note]
    if strides:
        notes.append('Strides of anchors and RoI extractors are those of the new maps.')
    if by_hand:
        notes.append(f'The maps\' strides change; set by hand: {", ".join(by_hand)}.')
    lines = [f'# {line}' for line in textwrap.wrap(' '.join(filter(None, notes)), 98)]
    lines += [f'_base_ = {_base(source, target)!r}',
              f'custom_imports = {_literal(dict(imports=imports, allow_failed_imports=False))}',
              f'model = {_literal(model)}']
    return '\n'.join(lines) + '\n'


def write_config(source: str | Path, cfg: Config, original: Advice, advice: Advice,
                 target: str | Path) -> None:
    """Write :func:`written_config`; an existing file is never overwritten.

    Raises:
        FileExistsError: if ``target`` exists.
    """
    text = written_config(source, cfg, original, advice, target)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    with open(target, 'x', encoding='utf-8') as file:
        file.write(text)


def _base(source: str | Path, target: str | Path) -> str:
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
               name: str) -> dict[str, Any]:
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
