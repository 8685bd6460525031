"""Make docs/benchmarks.md and its plot from the JSON files in docs/benchmarks.

    python tools/dev/benchmark_docs.py
    python tools/dev/benchmark_docs.py --json a.json b.json --out page.md --plot growth.png
"""
from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from gmconv_mmdet.lab.benchmark.page import draw, page

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--json', type=Path, nargs='+',
                        help='results of benchmark.py and time_shares.py; docs/benchmarks/*.json '
                        'by default')
    parser.add_argument('--out', type=Path, default=ROOT / 'docs' / 'benchmarks.md')
    parser.add_argument('--plot', type=Path, default=ROOT / 'docs' / 'images' / 'growth.png')
    args = parser.parse_args()
    paths = args.json or sorted((ROOT / 'docs' / 'benchmarks').glob('*.json'))
    if not paths:
        print('benchmark_docs: no results in docs/benchmarks: python tools/analysis_tools/benchmark.py '
              '--quick --json docs/benchmarks/quick.json', file=sys.stderr)
        return 1
    files = [(path, json.loads(path.read_text())) for path in paths]
    sweeps = next(filter(None, (content.get('growth') for _, content in files)), None)
    if sweeps:
        draw(sweeps, args.plot)
    args.out.write_text(page(files, 'python tools/dev/benchmark_docs.py', os.path.relpath(
        args.plot, args.out.parent) if sweeps else None))
    print(f'wrote {args.out} from {", ".join(path.name for path in paths)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
