"""Time the parts of a training iteration and of an evaluation at full size, on real images.

    python tools/analysis_tools/time_shares.py --data-root coco128 --json docs/benchmarks/time_shares.json

Faster R-CNN with GMConv in stem and L1-L4 (another row: --row), images resized to 1333x800 as for
COCO, weights random, loaded in the training process. Then the first ten lines of a profile.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from mmengine.logging import MMLogger

from gmconv_mmdet.files import write_json
from gmconv_mmdet.lab.benchmark import suite, time_shares
from gmconv_mmdet.lab.benchmark.tables import shares_tables
from gmconv_mmdet.lab.reproduce.table import (
    CocoFolder,
    RunOptions,
    find_coco_folder,
    run_config,
    select_rows,
)


def data_folder(root: Path) -> CocoFolder:
    """COCO 2017, or COCO128 with all its images for training and for evaluation."""
    whole = 'annotations/instances_all.json'
    if not (root / whole).is_file():
        return find_coco_folder(root)
    return find_coco_folder(root, train_annotations=whole, val_annotations=whole,
                            train_images='images', val_images='images')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data-root', type=Path, required=True, help='COCO128, or COCO 2017')
    parser.add_argument('--row', default='faster-rcnn_r50-gm-stem-l1-l4', help='of Table V')
    parser.add_argument('--iterations', type=int, default=3)
    parser.add_argument('--images', type=int, default=4, help='to evaluate')
    parser.add_argument('--images-per-gpu', type=int, default=2)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--threads', type=int)
    parser.add_argument('--json', type=Path, metavar='OUT')
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    MMLogger.get_instance('time_shares', log_level='WARNING')  # the last one made is used
    row, = select_rows('V', [args.row])
    results = suite.record(['python', 'tools/analysis_tools/time_shares.py', *sys.argv[1:]])
    config = run_config(row, 0, RunOptions(data_folder(args.data_root),
                                           images_per_gpu=args.images_per_gpu))
    config.model.backbone.init_cfg = None
    results['time_shares'] = dict(row=row.name, **time_shares.measure(
        config, args.iterations, args.images, args.device,
        say=lambda text: print(text, file=sys.stderr)))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.json, results)
    print('\n'.join(shares_tables(results['time_shares'])))


if __name__ == '__main__':
    main()
