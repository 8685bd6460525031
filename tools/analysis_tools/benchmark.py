"""Time training steps and inference of GMConv networks against the plain ones, side by side.

    python tools/analysis_tools/benchmark.py --quick --json quick.json
    python tools/analysis_tools/benchmark.py --network backbone detector --work step inference --json cpu.json
    python tools/analysis_tools/benchmark.py --precision fp32 amp --channels-last --batch 8 --size 800 1216

Every combination of the values given is one comparison: a table is printed when it ends, and the
JSON file is written again. Variants take turns, round after round; ratios are medians of the ratios
of times of the same round. tools/dev/benchmark_docs.py makes a page of such files.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import torch

from gmconv_mmdet.lab.benchmark import suite
from gmconv_mmdet.lab.benchmark.networks import NETWORKS, VARIANTS
from gmconv_mmdet.lab.benchmark.work import PRECISIONS, WORK
from gmconv_mmdet.files import write_json


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true',
                        help='training step and inference of the main variants, in two minutes on two cores')
    parser.add_argument('--network', nargs='+', choices=NETWORKS, default=['backbone'])
    parser.add_argument('--work', nargs='+', choices=WORK, default=['step', 'inference'])
    parser.add_argument('--variants', nargs='+', choices=VARIANTS, metavar='NAME',
                        help=f'of {", ".join(VARIANTS)}; all by default. The first is what the '
                        'others are compared with')
    parser.add_argument('--batch', type=int, nargs='+', default=[2])
    parser.add_argument('--size', type=int, nargs=2, action='append', metavar=('H', 'W'),
                        help='may be repeated; 512 512 by default')
    parser.add_argument('--precision', nargs='+', choices=PRECISIONS, default=['fp32'])
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--compile', action='store_true', help='torch.compile; backbones only')
    parser.add_argument('--frozen-stages', type=int, default=-1)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--rounds', type=int, default=15, help='at most')
    parser.add_argument('--seconds', type=float, default=120, help='for each comparison')
    parser.add_argument('--threads', type=int, help='of the CPU')
    parser.add_argument('--json', type=Path, metavar='OUT')
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    results = suite.record(['python', 'tools/analysis_tools/benchmark.py', *sys.argv[1:]])

    def progress(text: str) -> None:
        if sys.stderr.isatty():
            print(f'\r\033[K{text}', end='', file=sys.stderr, flush=True)

    def rounds_of(title: str) -> Callable[[int], None]:
        begun = time.perf_counter()
        return lambda n: progress(f'{title}: round {n}, {time.perf_counter() - begun:.0f} s')

    def save() -> None:
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            write_json(args.json, results)

    try:
        variants = args.variants or VARIANTS
        comparisons = suite.quick_cases(args.device) if args.quick else (
            (suite.Case(network, work, tuple(variants), batch, tuple(size), precision,
                        args.channels_last, args.compile, args.frozen_stages), args.seconds)
            for network, work, batch, size, precision in product(
                args.network, args.work, args.batch, args.size or [(512, 512)], args.precision))
        for comparison, seconds in comparisons:
            results['runs'].append(suite.run(comparison, args.device, args.rounds, seconds,
                                             on_round=rounds_of(comparison.title())))
            progress('')
            print(suite.title(results['runs'][-1]), end='\n\n')
            print('\n'.join(suite.result_table(results['runs'][-1])), end='\n\n', flush=True)
            save()
    except KeyboardInterrupt:
        print('\nstopped; what was finished is printed and saved', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
