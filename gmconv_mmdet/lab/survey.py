"""Every backbone of MMDetection's registry, and any number of configs, analysed or refused."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
import torchvision
from mmengine.config import Config
from mmengine.registry import DefaultScope

from ..openmmlab.configured_size import configured_size
from ..receptive_field.analyze import FieldSize, Report, analyze
from ..receptive_field.analyze_config import analyze_config
from ..receptive_field.field_table import pair
from ..receptive_field.tracing.field_trace import ReceptiveFieldError, require_meta_device

_RESNET = dict(depth=50)
_SAC = dict(_RESNET, conv_cfg=dict(type='ConvAWS'), sac=dict(type='SAC', use_deform=True),
            stage_with_sac=(False, True, True, True))


def _hrnet_stage(modules: int, widths: Sequence[int], block: str, blocks: int) -> dict[str, Any]:
    return dict(num_modules=modules, num_branches=len(widths), block=block,
                num_blocks=(blocks,) * len(widths), num_channels=tuple(widths))


ARGUMENTS: dict[str, dict[str, Any]] = {
    'ResNet': _RESNET, 'ResNetV1d': _RESNET, 'GMResNet': _RESNET, 'Res2Net': _RESNET,
    'ResNeXt': dict(depth=50, groups=32, base_width=4),
    'ResNeSt': dict(depth=50, stem_channels=64, radix=2, reduction_factor=4, avg_down_stride=True),
    'RegNet': dict(arch='regnetx_400mf'), 'SSDVGG': dict(depth=16),
    'DetectoRS_ResNet': _SAC, 'DetectoRS_ResNeXt': dict(_SAC, groups=32, base_width=4),
    'TridentResNet': dict(depth=50, num_branch=3, test_branch_idx=1, num_stages=3,
                          strides=(1, 2, 2), dilations=(1, 1, 1), trident_dilations=(1, 2, 3),
                          out_indices=(2,)),
    'HRNet': dict(extra=dict(stage1=_hrnet_stage(1, (64,), 'BOTTLENECK', 4),
                             stage2=_hrnet_stage(1, (18, 36), 'BASIC', 4),
                             stage3=_hrnet_stage(4, (18, 36, 72), 'BASIC', 4),
                             stage4=_hrnet_stage(3, (18, 36, 72, 144), 'BASIC', 4))),
}
"""What the backbones need beyond their defaults, as in MMDetection's own configs."""


@dataclass(frozen=True)
class Surveyed:
    """One subject: analysed (``report``) or refused (``reason``)."""
    name: str
    report: Report | None
    reason: str = ''


def registered_backbones() -> list[str]:
    """Names of the backbone classes in MMDetection's registry, this project's included."""
    import mmdet.models  # noqa: F401, registers them
    from mmdet.registry import MODELS
    return sorted(name for name, cls in MODELS.module_dict.items()
                  if inspect.isclass(cls) and '.backbones' in cls.__module__)


def survey_backbones(input_size: tuple[int, int]) -> Iterator[Surveyed]:
    """Build and analyse every backbone of the registry, one after the other."""
    from mmdet.registry import MODELS
    for name in registered_backbones():
        try:
            with DefaultScope.overwrite_default_scope('mmdet'):
                backbone = MODELS.build(dict(type=name, **ARGUMENTS.get(name, {})))
            yield Surveyed(name, analyze(backbone, input_size))
        except Exception as error:   # whatever a registered class does: it is the reason
            yield Surveyed(name, None, f'{type(error).__name__}: {error}')


def survey_configs(paths: Sequence[str | Path],
                   default_size: tuple[int, int]) -> Iterator[Surveyed]:
    """Analyse configs at the size of their test pipeline; those that name none at ``default_size``.

    What was left out (a neck that is refused) goes to ``reason``.
    """
    for path in paths:
        try:
            cfg = Config.fromfile(path)
            report, note = analyze_config(cfg, configured_size(cfg) or default_size)
            yield Surveyed(str(path), report, note)
        except Exception as error:   # as above
            yield Surveyed(str(path), None, f'{type(error).__name__}: {error}')


def build_network(name: str) -> nn.Module:
    """A classification network without weights: ``torchvision::resnet18``, ``timm::mnasnet_100``, or
    ``pretrainedmodels::nasnetamobile`` (Cadene's collection).

    Raises:
        ValueError: there is no such library or network.
        ModuleNotFoundError: the library isn't installed.
    """
    library, _, model = name.partition('::')
    require_meta_device()
    with torch.device('meta'):   # nothing to initialise
        if library == 'torchvision':
            return torchvision.models.get_model(model, weights=None)
        if library == 'timm':
            import timm
            return timm.create_model(model)
        if library == 'pretrainedmodels':
            import pretrainedmodels
            network = pretrainedmodels.__dict__[model](num_classes=1000, pretrained=None)
            network.avg_pool = nn.AdaptiveAvgPool2d(1)   # a fixed size there, global elsewhere
            return network
    raise ValueError(f'{name!r} is none of torchvision::, timm:: and pretrainedmodels::')


def survey_networks(names: Sequence[str], input_size: tuple[int, int]) -> Iterator[Surveyed]:
    """Analyse other libraries' networks, named as for :func:`build_network`."""
    require_meta_device()  # or every one would be refused for the same reason
    for name in names:
        try:
            yield Surveyed(name, analyze(build_network(name), input_size))
        except (ReceptiveFieldError, ValueError, ImportError, KeyError, RuntimeError) as error:
            yield Surveyed(name, None, f'{type(error).__name__}: {error}')


def _output(field: FieldSize) -> str:
    if field.r_max == (inf, inf):
        return 'global'
    return (pair(field.r_max) + ' (about)' * (not field.exact)
            + ' + global' * any(field.has_global_path))


def markdown(rows: Sequence[Surveyed], head: str) -> str:
    """A table of what was analysed, subjects of the same outcome in one row, then the refused."""
    outcomes: dict[str, list[str]] = {}
    refused = []
    for row in rows:
        if row.report is None:
            refused.append(f'* `{row.name}`: {row.reason}')
        else:
            note = f' ({row.reason})' if row.reason else ''
            outcomes.setdefault(_outcome(row.report), []).append(f'`{row.name}`{note}')
    lines = [f'| {head} | input | useful inputs | unproductive | r max of the outputs |',
             '|---|---|---|---|---|']
    lines += [f'| {"<br>".join(names)} | {cells} |' for cells, names in outcomes.items()]
    return '\n'.join(lines + ['', 'Refused:', ''] + (refused or ['* none']))


def _outcome(report: Report) -> str:
    return ' | '.join([
        pair(report.input_size), f'{pair(report.min_size)} to {pair(report.max_size)}',
        str(len(report.unproductive)), ', '.join(map(_output, report.outputs))])
