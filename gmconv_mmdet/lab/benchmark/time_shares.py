"""Where the time of a training iteration and of an evaluation goes, on real images."""
from __future__ import annotations

import cProfile
import pstats
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import METRICS, MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

import gmconv_mmdet

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
    # This module's own functions wait for none of the network's work.
    first = next(((rank, line) for rank, line in enumerate(lines, 1)
                  if line['ours'] and 'benchmark/' not in line['name']), None)
    return dict(lines=lines[:_LINES], seconds=total,
                ours=None if first is None else dict(first[1], rank=first[0]))
