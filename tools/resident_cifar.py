"""Train Table I's networks on CIFAR-10 with data and augmentation on the GPU.

    python tools/resident_cifar.py --data data/cifar10_packed --seeds 0 1 2 --out work_dirs/cifar

A run is one config with one seed: <out>/<config>-seed<k>.json is written when it ends, and such a
run is not repeated; an interrupted one goes on from its last tenth epoch. The recipes are the
paper's in full. python tools/resident_cifar.py --table <out>/*.json prints the results beside the paper's.
"""
import argparse
import sys
import time
from pathlib import Path

import torch
from mmengine.logging import MMLogger

from gmconv_mmdet.reproduce.resident_cifar import OutOfTime, train
from gmconv_mmdet.reproduce.resident_cifar_table import read_results, table
from gmconv_mmdet.reproduce.run_folder import write_json

CONFIGS = ('resnet20', 'resnet20-sgmconv', 'resnet20-gmconv')


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, default=Path('data/cifar10_packed'),
                        help='folder with cifar10_{train,test}.npz')
    parser.add_argument('--configs', nargs='+', default=CONFIGS, metavar='NAME',
                        help='in configs/cifar, without _cifar10')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/resident_cifar'))
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--epochs', type=int, help='fewer than the recipe\'s')
    parser.add_argument('--every', type=int, default=1, help='use each N-th image only')
    parser.add_argument('--half', action='store_true', help='fp16, not the paper\'s precision')
    parser.add_argument('--no-graph', action='store_true', help='do without CUDA graphs')
    parser.add_argument('--minutes', type=float, default=float('inf'),
                        help='begin no epoch after this long')
    parser.add_argument('--table', type=Path, nargs='+', metavar='JSON',
                        help='print these results instead')
    args = parser.parse_args()
    if args.table:
        print(table(read_results(args.table)), end='')
        return 0
    MMLogger.get_instance('resident_cifar', log_level='WARNING')  # the last one made is used
    args.out.mkdir(parents=True, exist_ok=True)
    until = time.time() + 60 * args.minutes
    try:
        for seed in args.seeds:
            for name in args.configs:
                result = args.out / f'{name}-seed{seed}.json'
                if result.is_file():
                    continue
                write_json(result, train(
                    name, args.data, args.out / f'{name}-seed{seed}.pth', seed,
                    device=args.device, epochs=args.epochs, every=args.every, half=args.half,
                    graphed=not args.no_graph, until=until,
                    on_epoch=lambda text: print(text, flush=True)))
    except OutOfTime as stop:
        print(f'{stop}; the same command goes on', file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print('stopped; the same command goes on', file=sys.stderr)
        return 130
    print(table(read_results(sorted(args.out.glob('*.json')))), end='')
    return 0


if __name__ == '__main__':
    sys.exit(main())
