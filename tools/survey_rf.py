"""Receptive fields of every backbone in MMDetection's registry, or of many configs, as Markdown.

    python tools/survey_rf.py --size 256 320
    python tools/survey_rf.py configs/gmconv/*.py mmdet::yolox/yolox_s_8xb8-300e_coco.py

Configs are analysed at the size of their test pipeline; `mmdet::` names those that MMDetection
ships.
"""
import argparse
from pathlib import Path

import mmdet

from gmconv_mmdet.analysis.survey import markdown, survey_backbones, survey_configs

SHIPPED = Path(mmdet.__file__).parent / '.mim' / 'configs'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='*', help='none: the backbones of the registry')
    parser.add_argument('--size', type=int, nargs=2, default=(256, 320), metavar=('H', 'W'),
                        help='for backbones and configs that name no size; default 256 320')
    args = parser.parse_args()
    if not args.configs:
        print(markdown(list(survey_backbones(tuple(args.size))), 'backbone'))
        return
    rows = []
    for name in args.configs:
        package, _, path = name.rpartition('::')
        found = [SHIPPED / path] if package == 'mmdet' else [name]
        for row in survey_configs(found, tuple(args.size)):
            shown = row.name.replace(f'{SHIPPED}/', 'mmdet::')
            rows.append(type(row)(shown, row.report, row.reason))
    print(markdown(rows, 'config'))


if __name__ == '__main__':
    main()
