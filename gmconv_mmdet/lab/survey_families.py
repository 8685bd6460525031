"""The families of networks of arXiv 2211.14487 at 224 pixels, and what one change does to each."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..receptive_field.advice.advise import Advice, advise, recommended
from ..receptive_field.analyze import WEIGHTED
from ..receptive_field.field_table import pair
from .survey import build_network

SIZE = (224, 224)
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


def survey_families(families: dict[str, Sequence[str]] = FAMILIES) -> Iterator[dict[str, Any]]:
    """One row a network, as plain data; a library that isn't installed is an ImportError."""
    for family, names in families.items():
        for name in names:
            advice = advise(build_network(name), SIZE)
            best = recommended(advice)
            change = advice[1]
            yield dict(family=family, name=name, as_is=_row(advice[0]), change=change.change.name,
                       what=change.change.description, recommended=change is best,
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
        lines.append(' | '.join([
            f'| {row["family"]}', f'`{row["name"]}`', _sizes(now),
            f'{now["unproductive"]} of {now["layers"]}',
            f'`{row["change"]}`' + ' (recommended)' * row['recommended'], _sizes(then),
            str(then['unproductive']), f'x {then["macs"] / now["macs"]:.2f} |']))
    return '\n'.join(lines)


def _sizes(row: dict[str, Any]) -> str:
    return f'{pair(row["min_size"])} to {pair(row["max_size"])}'
