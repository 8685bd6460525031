"""Receptive fields of MMDetection's backbones, of configs and of other libraries' networks."""
from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import Any

import torch
import torch.nn as nn
import torchvision
from mmengine.config import Config
from mmengine.registry import DefaultScope

from ..openmmlab.configured_size import configured_size
from ..openmmlab.mim_files import shipped
from ..receptive_field.advice.advise import Advice, advise, recommended
from ..receptive_field.analyze import WEIGHTED, FieldSize, Report, analyze
from ..receptive_field.analyze_config import analyze_config
from ..receptive_field.field_table import pair
from ..receptive_field.tracing.field_trace import require_meta_device
from ..torch_version import NewerTorchNeeded

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


FAMILIES = {
    'VGG': ('torchvision::vgg11', 'torchvision::vgg16', 'torchvision::vgg19'),
    'MobileNetV1': ('timm::mobilenetv1_100',),
    'MobileNetV3': ('torchvision::mobilenet_v3_small', 'torchvision::mobilenet_v3_large'),
    'NASNet-A mobile': ('pretrainedmodels::nasnetamobile',),
    'MnasNet': ('torchvision::mnasnet1_0',),
    'EfficientNet': ('torchvision::efficientnet_b0', 'torchvision::efficientnet_b3',
                     'torchvision::efficientnet_b7'),
    'ConvNeXt': ('torchvision::convnext_tiny', 'torchvision::convnext_base'),
}
"""Of arXiv 2211.14487."""


def registered_backbones() -> list[str]:
    """Names of the backbone classes in MMDetection's registry, this project's included."""
    import mmdet.models  # noqa: F401, registers them
    from mmdet.registry import MODELS
    return sorted(name for name, cls in MODELS.module_dict.items()
                  if inspect.isclass(cls) and '.backbones' in cls.__module__)


def build_network(name: str) -> nn.Module:
    """A classification network without weights: ``torchvision::resnet18``, ``timm::mnasnet_100``, or
    ``pretrainedmodels::nasnetamobile`` (Cadene's collection); a ValueError if there is none."""
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


def survey(name: str, size: tuple[int, int]) -> tuple[Report | None, str]:
    """Analyse one network: the report, and what was left out of it; or None and why it was refused.

    Args:
        name (str): of a registered backbone; of a config, ``mmdet::`` before one that MMDetection
            ships, at the size of its test pipeline; or as for :func:`build_network`.
        size (tuple[int, int]): height and width, where no config names them.
    """
    library, _, path = name.rpartition('::')
    try:
        if name.endswith('.py'):
            cfg = Config.fromfile(shipped(f'configs/{path}', library) if library else name)
            return analyze_config(cfg, configured_size(cfg) or size)
        if library:
            return analyze(build_network(name), size), ''
        from mmdet.registry import MODELS
        with DefaultScope.overwrite_default_scope('mmdet'):
            backbone = MODELS.build(dict(type=name, **ARGUMENTS.get(name, {})))
        return analyze(backbone, size), ''
    except NewerTorchNeeded:  # or all would be refused for this one reason
        raise
    except Exception as error:  # whatever a registered class or a config does: it is the reason
        return None, f'{type(error).__name__}: {error}'


def survey_table(names: Iterable[str], size: tuple[int, int]) -> str:
    """What :func:`survey` finds, as Markdown: a table of what was analysed, then the refused."""
    lines = ['| network | input | useful inputs | unproductive | r max of the outputs |',
             '|---|---|---|---|---|']
    refused = []
    for name in names:
        report, note = survey(name, size)
        if report is None:
            refused.append(f'* `{name}`: {note}')
            continue
        lines.append(' | '.join([
            f'| `{name}`' + f' ({note})' * bool(note), pair(report.input_size),
            f'{pair(report.min_size)} to {pair(report.max_size)}', str(len(report.unproductive)),
            ', '.join(map(_output, report.outputs)) + ' |']))
    return '\n'.join([*lines, '', 'Refused:', '', *(refused or ['* none'])])


def _output(field: FieldSize) -> str:
    if field.r_max == (inf, inf):
        return 'global'
    return (pair(field.r_max) + ' (about)' * (not field.exact)
            + ' + global' * any(field.has_global_path))


def survey_families(families: dict[str, Sequence[str]] = FAMILIES) -> Iterator[dict[str, Any]]:
    """What one change does to each network of ``families`` at 224 pixels: one row each, as plain
    data. A library that isn't installed is an ImportError."""
    for family, names in families.items():
        for name in names:
            advice = advise(build_network(name), (224, 224))
            change = advice[1]
            yield dict(family=family, name=name, as_is=_row(advice[0]), change=change.change.name,
                       what=change.change.description, recommended=change is recommended(advice),
                       changed=_row(change))


def _row(item: Advice) -> dict[str, Any]:
    report = item.report
    return dict(min_size=report.min_size, max_size=report.max_size,
                unproductive=len(report.unproductive),
                layers=sum(layer.kind in WEIGHTED for layer in report.layers.values()),
                params=report.params, macs=report.macs, score=round(item.scores.total, 4))


def families_table(rows: Sequence[dict[str, Any]]) -> str:
    """The last row of each family as Markdown."""
    lines = ['| family | network | useful inputs | unproductive | one change | useful inputs then | '
             'unproductive then | multiply-adds |', '|---|---|---|---|---|---|---|---|']
    for row in {row['family']: row for row in rows}.values():
        now, then = row['as_is'], row['changed']
        sizes = [f'{pair(at["min_size"])} to {pair(at["max_size"])}' for at in (now, then)]
        lines.append(' | '.join([
            f'| {row["family"]}', f'`{row["name"]}`', sizes[0],
            f'{now["unproductive"]} of {now["layers"]}',
            f'`{row["change"]}`' + ' (recommended)' * row['recommended'], sizes[1],
            str(then['unproductive']), f'x {then["macs"] / now["macs"]:.2f} |']))
    return '\n'.join(lines)
