"""Turn any checkpoint with a backbone in it into a published backbone.

    python tools/model_converters/convert_backbone.py work_dirs/in1k/epoch_90.pth gm_r50.pth
    python tools/model_converters/convert_backbone.py gm_r50-1a2b3c4d.pth r50.pth --to plain
    python tools/model_converters/convert_backbone.py torchvision://resnet50 gm.pth --row r50-gm-stem-l1

Strips optimizer, classifier, neck and heads, moves masks without changing what the network
computes, writes DST-<hash> with its metadata, and accounts for every tensor.
"""
from __future__ import annotations

import argparse
import sys
from functools import partial

from gmconv_mmdet.checkpoints import CheckpointError
from gmconv_mmdet.openmmlab.config_placement import row_placement
from gmconv_mmdet.pretrained.publish import TARGETS, convert_backbone


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', metavar='SRC', help='path, http(s)://, torchvision:// or '
                        'open-mmlab:// link of a checkpoint')
    parser.add_argument('destination', metavar='DST', help='.pth or .safetensors file')
    parser.add_argument('--to', choices=TARGETS, help='gm: masks everywhere, dynamic in the first '
                        'convolution; plain: nowhere. Default: where they are')
    parser.add_argument('--row', help='masks where this row of Table V has them: r50-gm-stem-l1')
    parser.add_argument('--prefix', help='what the backbone\'s names in SRC start with, where it '
                        'is not found')
    parser.add_argument('--half', action='store_true', help='kernels in fp16: half the file')
    args = parser.parse_args()
    if args.to and args.row:
        parser.error('give --to or --row, not both')
    to = partial(row_placement, args.row) if args.row else args.to
    try:
        published = convert_backbone(args.source, args.destination, to, args.prefix, args.half)
    except (CheckpointError, OSError, ImportError) as error:
        print(f'convert_backbone: {error}', file=sys.stderr)
        return 1
    print(published.report)
    for name in published.report.approximated:
        print(f'APPROXIMATED {name}: {published.report.reasons[name]}')
    for name, value in published.meta.items():
        if name != 'placement' and value:
            print(f'{name}: {value}')
    kinds = list(published.meta['placement'].values())
    print('masks: ' + (', '.join(f'{kinds.count(kind)} {kind}' for kind in sorted(set(kinds)))
                       or 'none'))
    print(f'written: {published.path}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
