"""Train a small plain network on CIFAR-10 with a CPU, refocus it with RefConv, fold it.

    python tools/refocus_short_run.py --data FOLDER --json docs/refconv.json \\
        --picture docs/images/refconv_cifar10.png

Prints the table of docs/refconv.md. Finished runs are not repeated, interrupted ones go on.
"""
import argparse
import json
import sys
from pathlib import Path

from gmconv_mmdet.layers.refconv import REF_INITS
from gmconv_mmdet.reproduce.refocus_short_run import markdown, refocus_run


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, default=Path('data/cifar10_packed'),
                        help='folder with cifar10_{train,test}.npz')
    parser.add_argument('--depth', type=int, default=8, help='of the CIFAR ResNet')
    parser.add_argument('--epochs', type=int, default=4, help='of each of the two phases')
    parser.add_argument('--every', type=int, default=12, help='train on each N-th image')
    parser.add_argument('--val-every', type=int, default=5, help='test images of the curves')
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--inits', nargs='+', choices=REF_INITS, default=list(REF_INITS))
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--work-root', type=Path, default=Path('work_dirs/refocus_short_run'))
    parser.add_argument('--json', type=Path, help='write the results here')
    parser.add_argument('--picture', type=Path, help='draw the curves here (.png)')
    args = parser.parse_args()
    try:
        result = refocus_run(args.work_root, args.data, args.depth, args.epochs, args.every,
                             args.val_every, args.batch, args.seed, args.threads,
                             args.inits)
    except RuntimeError as error:
        print(f'refocus_short_run: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('stopped; the same command goes on from the last epoch', file=sys.stderr)
        return 130
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + '\n')
    if args.picture:
        from gmconv_mmdet.reproduce.refocus_picture import refocus_figure
        refocus_figure(result).savefig(args.picture, dpi=110)
    print(markdown(result), end='')
    return 0


if __name__ == '__main__':
    sys.exit(main())
