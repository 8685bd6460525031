"""Turn a plain detector's or backbone's checkpoint into one for a config with GMConv or RefConv.

    python tools/model_converters/plain_to_gm.py CONFIG CHECKPOINT --out FILE [--backbone-only] [--force]

CONFIG says where masks are; the new checkpoint computes what CHECKPOINT did, which is checked on
random images before FILE is written. `load_from` and `GMPretrained` do the same without a file.
"""
from __future__ import annotations

import argparse
import sys

from gmconv_mmdet.deploy.plain_to_gm import plain_to_gm
from gmconv_mmdet.messages import shortened


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='path, http(s)://, torchvision:// or '
                        'open-mmlab:// link')
    parser.add_argument('--out', metavar='FILE', required=True)
    parser.add_argument('--backbone-only', action='store_true', help='CHECKPOINT is a backbone\'s, or '
                        'nothing else of it is wanted')
    parser.add_argument('--force', action='store_true', help='replace FILE')
    args = parser.parse_args()
    try:
        done = plain_to_gm(args.config, args.checkpoint, args.out, args.backbone_only, args.force)
    except (ValueError, OSError, ImportError) as error:
        print(f'plain_to_gm: {error}', file=sys.stderr)
        return 1
    print(done.report)
    kinds = list(done.placement.values())
    print('layers: ' + ', '.join(f'{kinds.count(kind)} {kind}' for kind in sorted(set(kinds))))
    for what, names in (('of another shape than the config\'s, kept as they are', done.as_they_were),
                        ('not in the file', done.left_out)):
        if names:
            print(f'{what}: {shortened(names)}')
    print(f'feature maps on random images differ by {done.difference:.1e} of their largest value')
    print(f'written: {done.path}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
