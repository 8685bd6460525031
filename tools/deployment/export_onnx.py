"""Write a trained detector's backbone and neck as ONNX file, checked against onnxruntime.

    python tools/deployment/export_onnx.py CONFIG CHECKPOINT OUT.onnx [--backbone-only] [--size H W] \
        [--opset N]

Input `image`: (N, 3, H, W), normalised and padded as the file's metadata say (mean, std,
channel_order, pad_size_divisor, pad_value; classes, too); N, H and W are dynamic. Outputs: `P2` (stride
4), `P3` ..., of a backbone alone `C2` ... Static masks are folded into the weights, a dynamic stem stays
dynamic.
"""
from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from gmconv_mmdet.deploy.trained_detector import feature_extractor, trained_detector
from gmconv_mmdet.deploy.onnx import write_checked
from gmconv_mmdet.deploy.onnx_metadata import image_metadata, level_names
from gmconv_mmdet.torch_version import NewerTorchNeeded


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('out', metavar='OUT.onnx', type=Path)
    parser.add_argument('--backbone-only', action='store_true', help='leave the neck out')
    parser.add_argument('--size', metavar=('H', 'W'), type=int, nargs=2, default=(256, 320),
                        help='images for the check; default 256 320')
    parser.add_argument('--opset', type=int, help='default: the one that torch writes')
    parser.add_argument('--force', action='store_true', help='replace OUT.onnx')
    args = parser.parse_args()
    if args.out.exists() and not args.force:
        print(f'export_onnx: {args.out} exists; --force replaces it', file=sys.stderr)
        return 1
    logging.getLogger('torch.onnx').setLevel(logging.ERROR)
    try:
        cfg, model, meta = trained_detector(args.config, args.checkpoint)
        network = feature_extractor(model, not args.backbone_only)
        names = level_names(network, tuple(args.size), 'P' if hasattr(network, 'neck') else 'C')
        opset, differences = write_checked(network, args.out, tuple(args.size), args.opset, names,
                                           image_metadata(cfg, meta))
    except (ValueError, OSError, ImportError, NewerTorchNeeded) as error:
        print(f'export_onnx: {error}', file=sys.stderr)
        return 1
    for (batch, height, width), difference in differences.items():
        print(f'batch {batch}, {height}x{width}: onnxruntime differs by {difference:.1e} of the '
              'largest value')
    print(f'written: {args.out} (opset {opset}; image -> {", ".join(names)})')
    return 0


if __name__ == '__main__':
    sys.exit(main())
