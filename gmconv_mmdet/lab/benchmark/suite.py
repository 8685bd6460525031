"""Comparisons with their settings and results, and the set of them behind ``--quick``."""
from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ...messages import markdown_table
from ..reproduce.history import code_version, environment
from .compare import compare
from .memory import held_bytes, peak_bytes
from .networks import FOLDED, PLAIN, build_network
from .work import Worker

SCHEMA = 1


@dataclass(frozen=True)
class Case:
    """What is compared, under which conditions. See :func:`build_network` and :class:`Worker`."""
    network: str = 'backbone'
    work: str = 'step'
    variants: tuple[str, ...] = (PLAIN, 'S-GM', 'GM')
    batch: int = 2
    size: tuple[int, int] = (512, 512)
    precision: str = 'fp32'
    channels_last: bool = False
    compiled: bool = False
    frozen_stages: int = -1

    def title(self) -> str:
        """One line for people."""
        options = [self.precision, *['channels_last'] * self.channels_last,
                   *['torch.compile'] * self.compiled,
                   *[f'frozen_stages {self.frozen_stages}'] * (self.frozen_stages >= 0)]
        return (f'{self.network}, {self.work}, {self.batch} x 3 x {self.size[0]} x {self.size[1]}, '
                + ', '.join(options))


def run(comparison: Case, device: torch.device | str = 'cpu', rounds: int = 10,
        seconds: float | None = None, on_round: Callable[[int], object] = lambda round_: None
        ) -> dict[str, Any]:
    """Time one comparison, and for training steps measure peak memory.

    Args:
        comparison (Case): what. Variants that can't do the work (folded ones and training)
            are left out.
        device, rounds, seconds, on_round: see :func:`compare`.

    Returns:
        dict: settings, ``rows`` and for training steps ``peak_bytes`` by variant: what is held
        between steps and what a step takes on top.
    """
    workers = {}
    for variant in comparison.variants:
        if variant in FOLDED and comparison.work != 'inference':
            continue
        workers[variant] = Worker(
            build_network(comparison.network, variant, comparison.frozen_stages), comparison.work,
            comparison.batch, comparison.size, device=device, precision=comparison.precision,
            channels_last=comparison.channels_last, compiled=comparison.compiled)
    rows = compare(workers, rounds, seconds=seconds, device=device,
                   warmup=3 if comparison.compiled else 1, on_round=on_round)
    result = dict(**asdict(comparison), device=str(device), threads=torch.get_num_threads(),
                  rows=[row._asdict() for row in rows])
    if comparison.work == 'step':
        # Not during the warm-up: an optimizer's first step makes its state.
        result['peak_bytes'] = {name: peak_of(worker) for name, worker in workers.items()}
    return result


def peak_of(worker: Worker) -> int:
    """Bytes of a network, its optimizer's state and all that a training step makes, at the peak."""
    worker.optimizer.zero_grad()
    return held_bytes(worker.model, worker.optimizer) + peak_bytes(worker, worker.device)


def quick_cases(device: torch.device | str) -> Iterator[tuple[Case, float]]:
    """What ``--quick`` compares, each with its seconds."""
    scale = 1 if torch.device(device).type == 'cpu' else 0.25
    yield Case(), 40 * scale
    yield Case(work='inference', variants=(PLAIN, 'S-GM folded', 'GM')), 24 * scale


def record(command: Sequence[str]) -> dict[str, Any]:
    """What stands at the head of a file of results."""
    return dict(schema=SCHEMA, command=shlex.join(command), code=code_version(),
                environment=environment(), processor=_processor(),
                load_average=round(os.getloadavg()[0], 2), runs=[])


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next((line.split(':')[1].strip() for line in lines if line.startswith('model name')),
                 platform.machine())
    return f'{model}, {len(os.sched_getaffinity(0))} cores'


def title(result: dict[str, Any]) -> str:
    """A result's settings on one line."""
    case = Case(**{name: result[name] for name in Case.__dataclass_fields__})
    where = f'CPU, {result["threads"]} threads' if result['device'] == 'cpu' else 'CUDA'
    return f'{case.title()} ({where})'


def result_table(result: dict[str, Any]) -> list[str]:
    """Times, their ratios to the first variant, and peak memory, in Markdown."""
    peaks = result.get('peak_bytes', {})
    plain = peaks.get(result['rows'][0]['name'])
    return markdown_table(
        ['network', 'rounds', 'median (ms)', 'ratio', 'quartiles',
         *['peak memory (MB)', 'ratio'] * bool(peaks)],
        ([row['name'], str(row['rounds']), f'{row["seconds"] * 1e3:.1f}', f'{row["ratio"]:.3f}',
          f'{row["ratio_low"]:.3f} - {row["ratio_high"]:.3f}',
          *([f'{peaks[row["name"]] / 1e6:.1f}', f'{peaks[row["name"]] / plain:.4f}'] if peaks
            else [])] for row in result['rows']))
