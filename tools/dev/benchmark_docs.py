"""Make docs/benchmarks.md from the JSON files in docs/benchmarks.

    python tools/dev/benchmark_docs.py [--json a.json b.json] [--out page.md]
"""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gmconv_mmdet.lab.benchmark import suite

ROOT = Path(__file__).resolve().parents[2]
_HEAD = '''# Benchmarks

Made by `python tools/dev/benchmark_docs.py` from the JSON files beside it; do not edit.

What a network with masks costs beside the same network without. Variants take turns within each
round, in a new order each time; a ratio is the median, over rounds, of two times from one round, with
its quartiles. Peak memory is that of a training step, parameters, gradients and optimizer included. A
step is forward, backward and SGD with momentum; everything is trained; weights and images are random.

`plain` is mmdet's ResNet-50, `S-GM` has static masks throughout, `GM` a dynamic stem and static masks,
`RefConv` refocused kernels; `folded` means through `fold_gmconv`. Nothing was measured on a GPU yet;
`tools/dev/gpu.sh` has the commands for one.

```bash
python tools/analysis_tools/benchmark.py --quick        # two minutes on two cores
```
'''


def page(files: dict[str, dict[str, Any]]) -> str:
    """The page as Markdown, from each file's name and content."""
    lines = [_HEAD.rstrip()]
    for name, content in files.items():
        lines += ['', f'## {name}', '', *environment_lines(content)]
        for run in content['runs']:
            lines += ['', f'### {suite.title(run)}', '', *suite.result_table(run)]
    return '\n'.join(lines) + '\n'


def environment_lines(results: dict[str, Any]) -> Iterator[str]:
    """Where a file of results comes from."""
    found = results['environment']
    names = ('GPU 0', 'PyTorch', 'mmcv', 'mmdet', 'numpy', 'Python')
    versions = ', '.join(f'{name} {found[name].split(" (")[0]}' for name in names if name in found)
    yield f'`{results["command"]}`'
    yield ''
    load = results.get('load_average')
    yield '; '.join([
        *filter(None, [results.get('processor')]),
        versions,
        f'code {results["code"][:10]}{"+changes" * results["code"].endswith("+changes")}',
        *([] if load is None else [f'load average at the start {load:.2f}'])]) + '.'
    if 'note' in results:
        yield ''
        yield results['note']


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--json', type=Path, nargs='+',
                        help='results of benchmark.py; docs/benchmarks/*.json by default')
    parser.add_argument('--out', type=Path, default=ROOT / 'docs' / 'benchmarks.md')
    args = parser.parse_args()
    paths = args.json or sorted((ROOT / 'docs' / 'benchmarks').glob('*.json'))
    args.out.write_text(page({path.stem: json.loads(path.read_text()) for path in paths}))
    print(f'wrote {args.out} from {", ".join(path.name for path in paths)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
