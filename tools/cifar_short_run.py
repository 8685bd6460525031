"""Train ResNet-20, plain and with static masks, for a few epochs of CIFAR-10 on a CPU.

    python tools/cifar_short_run.py --data data/cifar10_packed --json docs/cifar.json

Prints the tables of docs/cifar.md. Finished runs are not repeated, interrupted ones go on.
"""
import argparse
import json
import sys
from pathlib import Path

from gmconv_mmdet.reproduce.cifar_short_run import markdown, train


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, default=Path('data/cifar10_packed'),
                        help='folder with cifar10_{train,test}.npz')
    parser.add_argument('--configs', nargs='+', metavar='NAME', default=[
        'resnet20_cifar10-packed', 'resnet20-sgmconv_cifar10-packed'])
    parser.add_argument('--epochs', type=int, default=4)
    parser.add_argument('--every', type=int, default=15, help='train on each N-th image')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--work-root', type=Path, default=Path('work_dirs/cifar_short_run'))
    parser.add_argument('--json', type=Path, help='write the results here')
    args = parser.parse_args()
    try:
        results = [train(name, args.work_root, args.data, args.epochs, args.every, args.seed,
                         args.threads) for name in args.configs]
    except RuntimeError as error:
        print(f'cifar_short_run: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('stopped; the same command goes on from the last epoch', file=sys.stderr)
        return 130
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + '\n')
    print(markdown(results), end='')
    return 0


if __name__ == '__main__':
    sys.exit(main())
