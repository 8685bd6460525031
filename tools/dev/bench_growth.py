"""Time one GMConv beside a plain layer by batch, image, kernel and channels.

    python tools/dev/bench_growth.py --json docs/benchmarks/growth.json

tools/dev/benchmark_docs.py draws what comes out.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn as nn

from gmconv_mmdet.conversion.swap import converted
from gmconv_mmdet.files import write_json
from gmconv_mmdet.lab.benchmark import suite
from gmconv_mmdet.lab.benchmark.compare import compare

KINDS = ('plain', 'static', 'dynamic')


class Sweep(NamedTuple):
    """One layer at several values of one quantity; the other quantities stay."""
    quantity: str  # 'batch', 'image', 'kernel' or 'channels'
    values: tuple[int, ...]
    batch: int
    image: int  # side in pixels
    kernel: int
    stride: int
    in_channels: int
    out_channels: int

    def layer(self, value: int) -> dict[str, int]:
        """All quantities at one value. ``channels`` sets those of input and output."""
        found = self._asdict()
        del found['values'], found['quantity']
        names = ('in_channels', 'out_channels') if self.quantity == 'channels' else (
            self.quantity, )
        return {**found, **dict.fromkeys(names, value)}


def sweeps() -> Iterator[Sweep]:
    """ResNet's stem by batch and by image; a 3x3 layer by kernel and by channels."""
    stem = dict(kernel=7, stride=2, in_channels=3, out_channels=64)
    yield Sweep('batch', (1, 2, 4, 8, 16, 32, 64), batch=0, image=224, **stem)
    yield Sweep('image', (256, 400, 512, 800, 1024, 1333), batch=2, image=0, **stem)
    yield Sweep('kernel', (3, 5, 7, 11, 15, 21, 31), batch=2, image=56, kernel=0, stride=1,
                in_channels=32, out_channels=32)
    yield Sweep('channels', (16, 32, 64, 128, 256, 512), batch=2, image=28, kernel=3, stride=1,
                in_channels=0, out_channels=0)


def measure(sweep: Sweep, device: torch.device | str = 'cpu', rounds: int = 15,
            seconds: float = 3.) -> dict[str, Any]:
    """Time forward and backward of a plain, a static and a dynamic layer at each value.

    Args:
        sweep (Sweep): the layer and the values.
        device, rounds, seconds: for each value, see :func:`compare`.

    Returns:
        dict: the sweep and ``points``, one for each value, with its layer and rows.
    """
    points = []
    for value in sweep.values:
        layer = sweep.layer(value)
        variants = {kind: _step(layer, kind, device) for kind in KINDS}
        rows = compare(variants, rounds, warmup=2, seconds=seconds, device=device)
        points.append(dict(value=value, rows=[row._asdict() for row in rows]))
    return dict(**sweep._asdict(), device=str(device), threads=torch.get_num_threads(),
                points=points)


def _step(layer: dict[str, int], kind: str, device: torch.device | str) -> Callable[[], None]:
    torch.manual_seed(0)
    conv = nn.Conv2d(layer['in_channels'], layer['out_channels'], layer['kernel'],
                     layer['stride'], padding=layer['kernel'] // 2, bias=False, device=device)
    if kind != 'plain':
        conv = converted(conv, dynamic=kind == 'dynamic')
    # Within a network the gradient of a layer's input is needed too, but for the first layer's.
    x = torch.randn(layer['batch'], layer['in_channels'], layer['image'], layer['image'],
                    device=device, requires_grad=layer['in_channels'] != 3)
    with torch.no_grad():
        gradient = torch.randn_like(conv(x))

    def step() -> None:
        conv.zero_grad()
        x.grad = None
        conv(x).backward(gradient)
    return step


def table(growth: dict[str, Any]) -> list[str]:
    """A Markdown table: a line for each value."""
    lines = [f'| {growth["quantity"]} | plain (ms) | static: ratio | quartiles '
             '| dynamic: ratio | quartiles |', '| --- | --- | --- | --- | --- | --- |']
    for point in growth['points']:
        plain, *others = point['rows']
        lines.append(f'| {point["value"]} | {plain["seconds"] * 1e3:.2f} | ' + ' | '.join(
            f'{row["ratio"]:.3f} | {row["ratio_low"]:.3f} - {row["ratio_high"]:.3f}'
            for row in others) + ' |')
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--threads', type=int, help='of the CPU')
    parser.add_argument('--json', type=Path, metavar='OUT')
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    results = suite.record(['python', 'tools/dev/bench_growth.py', *sys.argv[1:]])
    for sweep in sweeps():
        results.setdefault('growth', []).append(measure(sweep, args.device))
        print('\n'.join(table(results['growth'][-1])), end='\n\n', flush=True)
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            write_json(args.json, results)


if __name__ == '__main__':
    main()
