"""Time training steps and inference of networks with masks beside those without.

    python tools/analysis_tools/benchmark.py --quick
    python tools/analysis_tools/benchmark.py --variants plain GM 'GM folded' --json cpu.json
    python tools/analysis_tools/benchmark.py --device cuda --amp --channels-last --batch 8 --size 800 1216
    python tools/analysis_tools/benchmark.py --show cpu.json gpu.json

Prints a table in Markdown for each kind of work. Variants take turns, round after round; ratios are
medians, with quartiles, of the ratios of two times of one round, to the first variant.
OMP_NUM_THREADS sets the threads. The tables of docs/benchmarks.md are made by

    sed -i '/<!-- tables -->/q' docs/benchmarks.md
    python tools/analysis_tools/benchmark.py --show docs/benchmarks/*.json >> docs/benchmarks.md
"""
from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from gmconv_mmdet.files import write_json
from gmconv_mmdet.lab.benchmark.compare import compare, peak_bytes
from gmconv_mmdet.lab.benchmark.workloads import (NETWORKS, VARIANTS, WORK, build_network,
                                                  held_bytes, is_folded, workload)
from gmconv_mmdet.lab.reproduce.history import code_version, environment
from gmconv_mmdet.messages import markdown_table


def measure(work: str, args: argparse.Namespace) -> dict[str, Any]:
    """Times, and the peak memory of training steps, as they stand in the JSON file."""
    work_of, held = {}, {}
    variants = [name for name in args.variants if work == 'inference' or not is_folded(name)]
    for name in variants:
        model = build_network(args.network, name, args.sigma)
        work_of[name], optimizer = workload(
            model, work, args.batch, args.size, device=args.device, amp=args.amp,
            channels_last=args.channels_last, compiled=args.compile)
        held[name] = model, optimizer
    result = dict(
        network=args.network, work=work, variants=variants, batch=args.batch, size=args.size,
        precision='amp' if args.amp else 'fp32', channels_last=args.channels_last,
        compiled=args.compile, sigma=args.sigma, device=args.device,
        threads=torch.get_num_threads(),
        rows=compare(work_of, args.rounds, args.seconds, warmup=3 if args.compile else 1,
                     device=args.device))
    if work == 'step':
        result['peak_bytes'] = {name: held_bytes(*held[name]) + peak_bytes(call, args.device)
                                for name, call in work_of.items()}
    return result


def processor() -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    name = next((line.partition(':')[2].strip() for line in lines
                 if line.startswith('model name')), platform.machine())
    return f'{name}, {os.cpu_count()} cores'


def table(runs: list[dict[str, Any]]) -> str:
    """Runs that differ by their work alone as one table in Markdown."""
    run = runs[0]
    options = [run['precision'], *['channels_last'] * run['channels_last'],
               *['torch.compile'] * run['compiled'],
               *[f'sigma {run.get("sigma", 5):g}'] * (run.get('sigma', 5) != 5)]
    where = f'CPU, {run["threads"]} threads' if run['device'] == 'cpu' else 'CUDA'
    header, lines = ['network'], {row['name']: [row['name']] for run in runs for row in run['rows']}
    for run in runs:
        rows = {row['name']: row for row in run['rows']}
        peaks = run.get('peak_bytes')
        header += [f'{run["work"]} (ms)', f'ratio, {run["rows"][0]["rounds"]} rounds',
                   *['peak (MB)'] * bool(peaks)]
        for name, line in lines.items():
            row = rows.get(name)
            line += ['', '', *[''] * bool(peaks)] if row is None else [
                f'{row["seconds"] * 1e3:.1f}',
                '1' if row is run['rows'][0] else
                f'{row["ratio"]:.3f} ({row["ratio_low"]:.3f}-{row["ratio_high"]:.3f})',
                *([f'{peaks[name] / 1e6:.1f}'] if peaks else [])]
    return '\n'.join([
        f'## {run["network"]}, batch {run["batch"]}, {run["size"][0]}x{run["size"][1]}, '
        f'{", ".join(options)} ({where})', '', *markdown_table(header, lines.values())])


def section(results: dict[str, Any]) -> str:
    """A file of results in Markdown: its table and where it comes from."""
    found = results['environment']
    versions = ', '.join(f'{key} {found[key].split(" (")[0]}' for key in
                         ('GPU 0', 'PyTorch', 'mmdet') if key in found)
    code, _, changes = results['code'].partition('+')
    return '\n\n'.join([
        table(results['runs']), f'`{results["command"]}`',
        f'{results["processor"]}; {versions}; code {code[:10]}{"+changes" * bool(changes)}; load '
        f'{results["load_average"]:.2f}. {results.get("note", "")}'.strip()])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--show', type=Path, nargs='+', metavar='JSON',
                        help='print the tables of files that --json wrote, and measure nothing')
    parser.add_argument('--quick', action='store_true',
                        help='256 x 256, 10 s for each kind of work: a minute on one core')
    parser.add_argument('--network', choices=NETWORKS, default='backbone')
    parser.add_argument('--work', nargs='+', choices=WORK, default=WORK)
    parser.add_argument('--variants', nargs='+', choices=VARIANTS, metavar='NAME',
                        default=['plain', 'S-GM', 'GM', 'S-GM folded'],
                        help=f'of {", ".join(VARIANTS)}; folded ones in inference only')
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--size', type=int, nargs=2, default=(512, 512), metavar=('H', 'W'))
    parser.add_argument('--sigma', type=float, default=5.0)
    parser.add_argument('--amp', action='store_true', help='fp16 on CUDA, bf16 elsewhere')
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--compile', action='store_true', help='torch.compile; not detectors')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--rounds', type=int, default=15, help='at most')
    parser.add_argument('--seconds', type=float, default=60,
                        help='for each kind of work, but three rounds at least')
    parser.add_argument('--json', type=Path, metavar='OUT')
    args = parser.parse_args()
    if args.show:
        print('\n\n'.join(section(json.loads(path.read_text())) for path in args.show))
        return
    if args.quick:
        args.size, args.seconds = (256, 256), 10
    results = dict(
        schema=1, command=shlex.join(['python', 'tools/analysis_tools/benchmark.py', *sys.argv[1:]]),
        code=code_version(), environment=environment(), processor=processor(),
        load_average=round(os.getloadavg()[0], 2), runs=[])
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
    for work in args.work:
        results['runs'].append(measure(work, args))
        print(table(results['runs'][-1:]), end='\n\n', flush=True)
        if args.json:
            write_json(args.json, results)


if __name__ == '__main__':
    main()
