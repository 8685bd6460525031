"""Receptive fields of every backbone in MMDetection's registry, or of many networks, as Markdown.

    python tools/dev/survey_rf.py --size 256 320
    python tools/dev/survey_rf.py configs/gmconv/*.py mmdet::yolox/yolox_s_8xb8-300e_coco.py
    python tools/dev/survey_rf.py --size 64 64 torchvision::resnet50 torchvision::vgg16

Configs are analysed at the size of their test pipeline; `mmdet::` names those that MMDetection
ships, `torchvision::` a classification network.
"""
from __future__ import annotations

import argparse
from pathlib import Path

import mmdet

from gmconv_mmdet.lab.survey import (Surveyed, markdown, survey_backbones, survey_configs,
                                     survey_torchvision)

SHIPPED = Path(mmdet.__file__).parent / '.mim' / 'configs'


def survey(name: str, size: tuple) -> Surveyed:
    package, _, path = name.rpartition('::')
    if package == 'torchvision':
        row, = survey_torchvision([path], size)
    else:
        row, = survey_configs([SHIPPED / path if package == 'mmdet' else name], size)
    return Surveyed(name, row.report, row.reason)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('networks', nargs='*', help='none: the backbones of the registry')
    parser.add_argument('--size', type=int, nargs=2, default=(256, 320), metavar=('H', 'W'),
                        help='where no config names a size; default 256 320')
    args = parser.parse_args()
    size = tuple(args.size)
    if args.networks:
        print(markdown([survey(name, size) for name in args.networks], 'network'))
    else:
        print(markdown(list(survey_backbones(size)), 'backbone'))


if __name__ == '__main__':
    main()
