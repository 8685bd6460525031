"""Receptive fields of every backbone in MMDetection's registry, or of many networks, as Markdown.

    python tools/dev/survey_rf.py --size 256 320
    python tools/dev/survey_rf.py configs/gmconv/*.py mmdet::yolox/yolox_s_8xb8-300e_coco.py
    python tools/dev/survey_rf.py --size 64 64 torchvision::resnet50 timm::mobilenetv1_100
    python tools/dev/survey_rf.py --families

Configs are analysed at the size of their test pipeline; `mmdet::` names those that MMDetection
ships, `torchvision::`, `timm::` and `pretrainedmodels::` a classification network. `--families`
(`pip install timm pretrainedmodels`) analyses those of arXiv 2211.14487 at 224 pixels and writes the
table in docs/receptive_field_analysis.md and its data.
"""
from __future__ import annotations

import argparse
import re
from pathlib import Path

from gmconv_mmdet.files import write_json, write_text
from gmconv_mmdet.lab.survey import (families_table, registered_backbones, survey_families,
                                     survey_table)

DOCS = Path(__file__).resolve().parents[2] / 'docs'


def write_families() -> None:
    rows = list(survey_families())
    write_json(DOCS / 'data' / 'receptive_fields' / 'families.json', rows)
    page = DOCS / 'receptive_field_analysis.md'
    write_text(page, re.sub(r'<!-- families -->.*?<!-- end -->', lambda _: (
        f'<!-- families -->\n\n{families_table(rows)}\n\n<!-- end -->'),
        page.read_text(encoding='utf-8'), flags=re.DOTALL))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('networks', nargs='*', help='none: the backbones of the registry')
    parser.add_argument('--size', type=int, nargs=2, default=(256, 320), metavar=('H', 'W'),
                        help='where no config names a size; default 256 320')
    parser.add_argument('--families', action='store_true', help='write the table of families')
    args = parser.parse_args()
    if args.families:
        write_families()
    else:
        print(survey_table(args.networks or registered_backbones(), tuple(args.size)))


if __name__ == '__main__':
    main()
