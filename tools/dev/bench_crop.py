"""Time folded convolutions, cropped and not, in turns.

    OMP_NUM_THREADS=1 python tools/dev/bench_crop.py [--rounds 60] [--tolerance 1e-3]

A sweep over sigma, not trained networks: a 7x7 stem (3 to 64 channels, stride 2, 2 x 512 x 512) and
3x3 layers (64 channels, 128 x 128; 256 channels, 32 x 32). The ratio is the cropped layer's time over
the whole one's in the same round; below 1 is faster.
"""
from __future__ import annotations

import argparse
from functools import partial

import torch

from gmconv_mmdet import GMConv2d, fold_gmconv
from gmconv_mmdet.conversion.crop import crop_of
from gmconv_mmdet.lab.benchmark.compare import compare

LAYERS = {'7x7 stem, 3 to 64': ((3, 64, 7), dict(stride=2, padding=3), 512, (2.0, 1.0, 0.7, 0.5, 0.35, 0.2)),
          '3x3, 64 to 64': ((64, 64, 3), dict(padding=1), 128, (0.5, 0.25)),
          '3x3, 256 to 256': ((256, 256, 3), dict(padding=1), 32, (0.5, 0.25))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=60)
    parser.add_argument('--tolerance', type=float, default=1e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    print(f'| layer | sigma | kernel at tolerance {args.tolerance:g} | time (quartiles) | bound |\n'
          '|---|---|---|---|---|')
    for name, (shape, options, size, sigmas) in LAYERS.items():
        x = torch.randn(2, shape[0], size, size)
        for sigma in sigmas:
            layer = GMConv2d(*shape, **options, bias=False, init_sigma=sigma).requires_grad_(False)
            crop = crop_of(layer, args.tolerance)
            if crop is None:
                print(f'| {name} | {sigma:g} | nothing is cut | | |', flush=True)
                continue
            whole, cropped = fold_gmconv(layer), fold_gmconv(layer, crop=args.tolerance)
            row = compare({'whole': partial(whole, x), 'cropped': partial(cropped, x)},
                          args.rounds, warmup=3)[1]
            print(f'| {name} | {sigma:g} | {crop.cropped_size[0]}x{crop.cropped_size[1]} | '
                  f'{row.ratio:.2f} ({row.ratio_low:.2f}-{row.ratio_high:.2f}) | '
                  f'{crop.relative_bound:.1e} |', flush=True)


if __name__ == '__main__':
    main()
