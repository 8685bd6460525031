"""Make docs/benchmarks.md and its plot from the JSON files in docs/benchmarks.

    python tools/dev/benchmark_docs.py
    python tools/dev/benchmark_docs.py --json a.json b.json --out page.md --plot growth.png
"""
from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gmconv_mmdet.lab.benchmark import suite
from gmconv_mmdet.lab.benchmark.targets import verdicts
from gmconv_mmdet.messages import markdown_table

ROOT = Path(__file__).resolve().parents[2]
_HEAD = '''# Benchmarks

Made by `{command}` from the JSON files beside it; do not edit.

What a network with masks costs beside the same network without. Variants take turns within each
round, in a new order each time; a ratio is the median, over rounds, of two times from one round, with
its quartiles. Peak memory is that of a training step, parameters, gradients and optimizer included. A
step is forward, backward and SGD with momentum; everything is trained; weights and images are random.

`plain` is mmdet's ResNet-50, `S-GM` has static masks throughout, `GM` a dynamic stem and static masks,
`DCN` deformable convolutions in L2-L4, `GM-DCN` those and masks in stem and L1, `RefConv` refocused
kernels; `folded` means through `fold_gmconv`.

```bash
python tools/analysis_tools/benchmark.py --quick        # two minutes on two cores
```
'''


def page(files: Sequence[tuple[Path, dict[str, Any]]], command: str, picture: str | None) -> str:
    """The page as Markdown.

    Args:
        files (Sequence[tuple[Path, dict]]): each file's name and content.
        command (str): what makes the page.
        picture (str, optional): the plot of :func:`draw`, relative to the page.
    """
    contents = list(files)
    lines = [_HEAD.format(command=command), '## Targets', '',
             'As ratios to the plain network in the same run; backbone, 2 x 3 x 512 x 512 or more.',
             '', *_targets(contents)]
    for path, content in contents:
        if content['runs']:
            lines += ['', f'## {path.stem}', '', *environment_lines(content)]
        for run in content['runs']:
            lines += ['', f'### {suite.title(run)}', '', *suite.result_table(run)]
    sweeps = [(path, content) for path, content in contents if content.get('growth')]
    if sweeps:
        lines += ['', '## As layers grow', '',
                  'Forward and backward of one layer: ResNet\'s stem (7x7, stride 2, 3 to 64 '
                  'channels) by batch at 224x224 and by image at batch 2; a layer of 32 channels '
                  'at 56x56 by kernel; a 3x3 layer at 28x28 by channels.']
        if picture:
            lines += ['', f'![ratios of static and dynamic layers to plain ones]({picture})']
    for _, content in sweeps:
        lines += ['', *environment_lines(content)]
    for _, content in contents:
        if 'time_shares' in content:
            lines += ['', f'## Time shares: {content["time_shares"]["row"]}', '',
                      'Images of COCO128 resized as for COCO (1333x800), loaded in the training '
                      'process; random weights, so that hardly a box reaches the metric.', '',
                      *environment_lines(content), '',
                      *shares_tables(content['time_shares'])]
    return '\n'.join(lines) + '\n'


def _targets(contents: Sequence[tuple[Path, dict[str, Any]]]) -> Iterator[str]:
    found = [(path, verdict) for path, content in contents for verdict in verdicts(content)]
    yield from markdown_table(['what', 'results', 'measured', 'target', ''], (
        [verdict.what, path.stem, f'{verdict.value:.3f}',
         *verdict.text().split('target ')[1].split(': ')] for path, verdict in found))
    if not any('CUDA' in verdict.what for _, verdict in found):
        yield ''
        yield 'Nothing was measured on a GPU yet; `tools/dev/gpu.sh` has the commands for one.'


def draw(sweeps: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot how ratios to a plain layer change: a panel for each sweep, bands for the quartiles."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullLocator
    figure, axes = plt.subplots(1, len(sweeps), figsize=(3.4 * len(sweeps), 3.4), sharey=True,
                                layout='constrained', squeeze=False)
    units = dict(batch='batch (images)', image='side of the image (pixels)',
                 kernel='side of the kernel (cells)', channels='channels, in and out')
    for axis, sweep in zip(axes[0], sweeps):
        values = [point['value'] for point in sweep['points']]
        for index, (name, color) in enumerate((('static', '#0072b2'), ('dynamic', '#d55e00')), 1):
            rows = [point['rows'][index] for point in sweep['points']]
            axis.plot(values, [row['ratio'] for row in rows], 'o-', color=color, label=name,
                      markersize=4)
            axis.fill_between(values, [row['ratio_low'] for row in rows],
                              [row['ratio_high'] for row in rows], color=color, alpha=0.2,
                              linewidth=0)
        axis.axhline(1, color='0.4', linewidth=0.8)
        axis.set_xscale('log', base=2)
        axis.set_xticks(values, [str(value) for value in values], fontsize=8)
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlabel(units[sweep['quantity']])
        axis.grid(axis='y', alpha=0.3)
    axes[0][0].set_ylabel('time of forward and backward,\nratio to the plain layer')
    axes[0][0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


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


def shares_tables(shares: dict[str, Any]) -> list[str]:
    """Lines of the tables of ``time_shares.py``."""
    lines = []
    for what, unit in (('training', f'an iteration of {shares["images_per_iteration"]} images'),
                       ('evaluation', 'an image')):
        total = sum(shares[what].values())
        lines += [*markdown_table([what, f'seconds, {unit}', 'share'], (
            [phase, f'{seconds:.3f}', f'{seconds / total:.1%}']
            for phase, seconds in {**shares[what], 'all': total}.items())), '']
    profile = shares['profile']
    lines += [f'First lines of a profile of one training iteration ({profile["seconds"]:.1f} s), '
              'by time in the function itself:', '',
              *markdown_table(['', 'function', 'seconds', 'share'], (
                  [str(rank), f'`{line["name"]}`', f'{line["seconds"]:.3f}', f'{line["share"]:.1%}']
                  for rank, line in enumerate(profile['lines'][:5], 1)))]
    first = profile.get('ours')
    if first is not None:
        lines += ['', f'The first line of this package is number {first["rank"]}: `{first["name"]}`, '
                  f'{first["seconds"]:.3f} s, {first["share"]:.2%}.']
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--json', type=Path, nargs='+',
                        help='results of benchmark.py, bench_growth.py and time_shares.py; '
                        'docs/benchmarks/*.json by default')
    parser.add_argument('--out', type=Path, default=ROOT / 'docs' / 'benchmarks.md')
    parser.add_argument('--plot', type=Path, default=ROOT / 'docs' / 'images' / 'growth.png')
    args = parser.parse_args()
    paths = args.json or sorted((ROOT / 'docs' / 'benchmarks').glob('*.json'))
    if not paths:
        print('benchmark_docs: no results in docs/benchmarks: python '
              'tools/analysis_tools/benchmark.py --quick --json docs/benchmarks/quick.json', file=sys.stderr)
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
