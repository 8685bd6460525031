"""Draw what every GMConv layer has learned: its mask, sigma and effective kernel size (Fig. 7).

    python tools/analysis_tools/visualize_masks.py CONFIG CHECKPOINT --out DIR
    python tools/analysis_tools/visualize_masks.py CONFIG CHECKPOINT --images FOLDER --out DIR

Writes masks.png and masks.csv; with images also dynamic_sigmas.png and .csv, for the layers that
predict a mask for each image. See docs/visualization.md.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gmconv_mmdet.visualization.measured_model import load_model
from gmconv_mmdet.visualization.image_files import image_files
from gmconv_mmdet.visualization.mask_picture import write_masks


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of a model with GMConv in its backbone or neck')
    parser.add_argument('checkpoint', nargs='?', help='its weights; without them masks are as '
                        'training starts, and other weights random')
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='folder to write to')
    parser.add_argument('--images', metavar='FOLDER',
                        help='images for which dynamic layers predict')
    parser.add_argument('--num-images', type=int, default=100, metavar='N',
                        help='at most so many of them (default: %(default)s)')
    parser.add_argument('--size', type=int, metavar='PX',
                        help="fit images into PX x PX; default: the config's test scale")
    parser.add_argument('--device', default='cpu', help='cpu (default), cuda, cuda:1 ...')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    images = image_files(args.images, args.num_images) if args.images else []
    model = load_model(args.config, args.checkpoint, device=args.device)
    masks = write_masks(model, args.out, images, args.size)
    print(f'{model.weights}; {len(masks)} masks. Wrote {args.out}:')
    print('\n'.join(f'  {path.name}' for path in sorted(args.out.iterdir())))


if __name__ == '__main__':
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f'{type(error).__name__}: {error}')
