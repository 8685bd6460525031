"""Fold a trained detector's masks into its weights: a checkpoint and a config that mmdet runs.

    python tools/deployment/fuse.py CONFIG CHECKPOINT OUT [--calib ANN_FILE IMAGE_FOLDER] [--stem average]

Writes OUT.pth and OUT.py once the folded detector was found equal. Where every mask was static it
is a plain mmdet model that needs nothing of this package. A dynamic stem stays as it is, unless it
is approximated on request: --stem average gives it the mask of its average sigmas on the images of
--calib, and reports what that changed.
"""
from __future__ import annotations

import argparse
import sys

from gmconv_mmdet.deploy.fuse import STEMS, FuseError, fuse


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('out', metavar='OUT')
    parser.add_argument('--stem', choices=STEMS, default='keep',
                        help='what becomes of dynamic masks; default keep')
    parser.add_argument('--calib', nargs=2, metavar=('ANN_FILE', 'IMAGE_FOLDER'),
                        help='COCO annotations and images: metrics before and after')
    parser.add_argument('--force', action='store_true', help='replace OUT.pth and OUT.py')
    args = parser.parse_args()
    try:
        report = fuse(args.config, args.checkpoint, args.out, args.stem, args.calib, args.force)
    except (FuseError, ValueError, OSError, ImportError) as error:
        print(f'fuse: {error}', file=sys.stderr)
        return 1
    print(report.text())
    return 0


if __name__ == '__main__':
    sys.exit(main())
