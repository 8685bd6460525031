"""A config for your own data in COCO's format, in one command.

    python tools/own_data.py TRAIN.json IMAGES --val VAL.json IMAGES --out my_config.py
    python tools/own_data.py ALL.json IMAGES --out my_config.py       # divided by image, seeded

Writes a short config that says why it sets what it sets, and prints the commands to train, test,
fold, draw masks and compare with plain convolutions. Overwrites nothing. See docs/own_data.md.
"""
from __future__ import annotations

import argparse
import sys
import warnings

# MMEngine says so at every config.
warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

from gmconv_mmdet.own_data.base_config import DEFAULT_BASE
from gmconv_mmdet.own_data.own_config import Options
from gmconv_mmdet.own_data.write import write_own_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('annotations', help='COCO annotation file of the training set, or of all')
    parser.add_argument('images', help='folder that its file_name entries start from')
    parser.add_argument('--val', nargs=2, metavar=('JSON', 'IMAGES'),
                        help='validation set; without it the images are divided')
    parser.add_argument('--val-share', type=float, default=0.2, metavar='SHARE',
                        help='part that is set aside without --val (default: %(default)s)')
    parser.add_argument('--base', default=DEFAULT_BASE,
                        help='a config of this project, mmdet::FOLDER/CONFIG.py or a path (default: '
                        '%(default)s)')
    parser.add_argument('--out', required=True, metavar='CONFIG.py', help='the config to write')
    start = parser.add_mutually_exclusive_group()
    start.add_argument('--pretrained', metavar='WEIGHTS',
                       help='a file (backbone, classifier or detector), a link, or '
                       'torchvision://NAME; default: as the base has it')
    start.add_argument('--from-scratch', action='store_true', help='no pretrained weights')
    parser.add_argument('--scale', type=int, nargs=2, metavar=('W', 'H'),
                        help='image scale; default: advised from the boxes')
    parser.add_argument('--batch-size', type=int, help='images a GPU; default: the base\'s')
    parser.add_argument('--epochs', type=int, help='default: by the number of images')
    parser.add_argument('--seed', type=int, default=0,
                        help='of the division and of the training (default: %(default)s)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    options = Options(args.pretrained, args.from_scratch, tuple(args.scale) if args.scale else None,
                      args.batch_size, args.epochs, args.seed)
    written = write_own_config((args.annotations, args.images), args.val, args.base, args.out,
                               options, args.val_share)
    for path in [*written.annotations, written.config]:
        print(f'wrote {path}')
    for remark in written.remarks:
        print(f'note: {remark}')
    for title, command in written.commands.items():
        print(f'\n# {title}\n{command}')


if __name__ == '__main__':
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f'{type(error).__name__}: {error}')
