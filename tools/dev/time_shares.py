"""Time the parts of a training iteration and of an evaluation at full size, on real images.

    python tools/dev/time_shares.py --data-root coco128 --json docs/benchmarks/time_shares.json

Faster R-CNN with GMConv in stem and L1-L4 (another row: --row), images resized to 1333x800 as for
COCO, weights random, loaded in the training process. Then the first ten lines of a profile.
"""
from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import METRICS, MODELS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from benchmark_docs import shares_tables  # beside this file

import gmconv_mmdet
from gmconv_mmdet.files import write_json
from gmconv_mmdet.lab.benchmark import suite
from gmconv_mmdet.lab.reproduce.table import (
    CocoFolder,
    RunOptions,
    find_coco_folder,
    run_config,
    select_rows,
)

TRAINING = ('data loading', 'forward', 'backward', 'optimizer')
EVALUATION = ('data loading', 'inference', 'metric')
_LINES = 10


class _Clock:
    """Adds up seconds by phase."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        self.seconds[name] = self.seconds.get(name, 0.) + time.perf_counter() - begun


def measure(config: Config, iterations: int = 3, images: int = 4,
            device: torch.device | str = 'cpu',
            say: Callable[[str], object] = lambda text: None) -> dict[str, Any]:
    """Train for a few iterations, evaluate a few images, and profile one iteration more.

    Args:
        config (Config): a detector's, with its data sets; images are loaded in this process, since
            worker processes would hide what loading costs.
        iterations (int): of training, after one that isn't counted.
        images (int): that are evaluated, after one that isn't counted.
        device: where.
        say (Callable[[str], object]): told what comes next.

    Returns:
        dict: ``training`` and ``evaluation``: seconds by phase, an iteration or image; ``profile``:
        the lines of :func:`top_lines`.
    """
    device = torch.device(device)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    model.to(device)
    for split in ('train', 'val'):
        config[f'{split}_dataloader'].update(num_workers=0, persistent_workers=False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4,
                                momentum=0.9, weight_decay=1e-4)
    loader = iter(Runner.build_dataloader(config.train_dataloader, seed=0))
    model.train()

    def iteration(clock: _Clock) -> None:
        with clock.phase('data loading'):
            batch = next(loader)
        with clock.phase('forward'):
            batch = model.data_preprocessor(batch, training=True)
            loss, _ = model.parse_losses(model(**batch, mode='loss'))
        optimizer.zero_grad()
        with clock.phase('backward'):
            loss.backward()
        with clock.phase('optimizer'):
            optimizer.step()

    say('training: an iteration to warm up')
    iteration(_Clock(device))
    training = _Clock(device)
    for number in range(iterations):
        say(f'training: iteration {number + 1} of {iterations}')
        iteration(training)
    say('training: an iteration under the profiler')
    profiler = cProfile.Profile()
    profiler.enable()
    iteration(_Clock(device))
    profiler.disable()

    model.eval()
    metric = METRICS.build(config.val_evaluator)
    samples = Runner.build_dataloader(config.val_dataloader, seed=0)
    metric.dataset_meta = samples.dataset.metainfo
    evaluation = _Clock(device)
    samples = iter(samples)
    for number in range(images + 1):
        say(f'evaluation: image {number} of {images}')
        clock = evaluation if number else _Clock(device)
        with clock.phase('data loading'):
            batch = next(samples)
        with clock.phase('inference'), torch.no_grad():
            found = model.test_step(batch)
        with clock.phase('metric'):
            metric.process(batch, [sample.to_dict() for sample in found])
    with evaluation.phase('metric'):
        metric.evaluate(images + 1)
    return dict(
        images_per_iteration=config.train_dataloader.batch_size, iterations=iterations,
        images=images, device=str(device), threads=torch.get_num_threads(),
        training={name: training.seconds[name] / iterations for name in TRAINING},
        evaluation={name: evaluation.seconds[name] / images for name in EVALUATION},
        profile=top_lines(profiler))


def top_lines(profiler: cProfile.Profile) -> dict[str, Any]:
    """The functions in which Python spent most time, what they called left out.

    Returns:
        dict: ``lines``, the first ten: ``name``, ``seconds``, ``share`` and whether it is ``ours``;
        ``seconds`` of all; ``ours``, the rank and the line of the first function of this package.
    """
    package = str(Path(gmconv_mmdet.__file__).resolve().parent)
    stats = vars(pstats.Stats(profiler))['stats']
    total = sum(own for _, _, own, _, _ in stats.values())
    lines = [dict(name=name if file == '~' else
                  f'{Path(file).parent.name}/{Path(file).name}: {name}',
                  seconds=own, share=own / total, ours=file.startswith(package))
             for (file, _, name), (_, _, own, _, _) in sorted(
                 stats.items(), key=lambda item: -item[1][2])]
    first = next(((rank, line) for rank, line in enumerate(lines, 1) if line['ours']), None)
    return dict(lines=lines[:_LINES], seconds=total,
                ours=None if first is None else dict(first[1], rank=first[0]))


def data_folder(root: Path) -> CocoFolder:
    """COCO 2017, or COCO128 with all its images for training and for evaluation."""
    whole = 'annotations/instances_all.json'
    if not (root / whole).is_file():
        return find_coco_folder(root)
    return find_coco_folder(root, train_annotations=whole, val_annotations=whole,
                            train_images='images', val_images='images')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data-root', type=Path, required=True, help='COCO128, or COCO 2017')
    parser.add_argument('--row', default='faster-rcnn_r50-gm-stem-l1-l4', help='of Table V')
    parser.add_argument('--iterations', type=int, default=3)
    parser.add_argument('--images', type=int, default=4, help='to evaluate')
    parser.add_argument('--images-per-gpu', type=int, default=2)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--threads', type=int)
    parser.add_argument('--json', type=Path, metavar='OUT')
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    MMLogger.get_instance('time_shares', log_level='WARNING')  # the last one made is used
    row, = select_rows('V', [args.row])
    results = suite.record(['python', 'tools/dev/time_shares.py', *sys.argv[1:]])
    config = run_config(row, 0, RunOptions(data_folder(args.data_root),
                                           images_per_gpu=args.images_per_gpu))
    config.model.backbone.init_cfg = None
    results['time_shares'] = dict(row=row.name, **measure(
        config, args.iterations, args.images, args.device,
        say=lambda text: print(text, file=sys.stderr)))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.json, results)
    print('\n'.join(shares_tables(results['time_shares'])))


if __name__ == '__main__':
    main()
