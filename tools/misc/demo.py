"""Draw a small detection set, train a GMConv Faster R-CNN on it, evaluate it and sum up.

    python tools/misc/demo.py [--data DIR] [--work-dir DIR] [--config FILE] [--images TRAIN VAL]

An interrupted run goes on when it is called again. `bash tools/demo.sh` sets the environment up
first.
"""
from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

CONFIG = (Path(__file__).resolve().parents[2] / 'configs' / 'demo'
          / 'faster-rcnn_r18-gm_fpn_shapes.py')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, default=Path('data/demo_shapes'),
                        help='folder of the images, made if it is absent (default: %(default)s)')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'),
                        help='folder of what is trained (default: %(default)s); a new one starts '
                        'a new training')
    parser.add_argument('--config', type=Path, default=CONFIG,
                        help='a config of your own with the default one as its _base_')
    parser.add_argument('--images', type=int, nargs=2, default=(320, 80),
                        metavar=('TRAIN', 'VAL'), help='numbers of images (default: 320 80)')
    args = parser.parse_args()
    if min(args.images) < 1:
        parser.error(f'--images must be at least 1 each, got {args.images}')
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what is running as Ctrl-C does
    try:
        from gmconv_mmdet.files import FolderBusy
        from gmconv_mmdet.lab.demo.run import DemoError, run_demo
        from gmconv_mmdet.lab.demo.shapes import ShapesError
        try:
            print(run_demo(args.config, args.data, args.work_dir, tuple(args.images)))
        except (DemoError, FolderBusy, ShapesError, ValueError, OSError) as error:
            print(f'\nThe demo stopped: {error}', file=sys.stderr)
            return 1
    except KeyboardInterrupt:
        print('\nInterrupted. The same command goes on where this one stopped.', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
