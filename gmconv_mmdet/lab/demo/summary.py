"""What the demo has to show at its end: metrics, learned sigmas, pictures, and where things are."""
from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path

import mmcv
import torch
from mmdet.apis import init_detector
from mmdet.registry import VISUALIZERS
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner
from torch import Tensor

from ...checkpoints import read_checkpoint
from ...layers import GMConv2d

METRICS = {'AP': 'mAP', 'AP50': 'mAP_50', 'AP75': 'mAP_75', 'AP_S': 'mAP_s', 'AP_M': 'mAP_m',
           'AP_L': 'mAP_l'}
PICTURES = 12
SCORE_THRESHOLD = 0.5  # of the boxes in the pictures


def read_metrics(evaluation: Path, earlier: Collection[Path] = ()) -> dict[str, float]:
    """COCO's box metrics from the newest result that ``tools/test.py`` wrote below its work dir.

    Raises:
        FileNotFoundError: there is none but ``earlier`` ones, of other weights perhaps.
    """
    results = set(evaluation.glob('*/*.json')) - set(earlier)
    if not results:
        raise FileNotFoundError(f'tools/test.py left no metrics in {evaluation}: see its log there. '
                                'It writes none where nothing at all was detected')
    found = json.loads(max(results, key=lambda path: path.name).read_text())
    return {name: found[f'coco/bbox_{key}'] for name, key in METRICS.items()}


def training_seconds(checkpoint: dict) -> float:
    """Time of all training iterations, those before an interruption included."""
    values, _ = checkpoint['message_hub']['log_scalars']['train/time'].data
    return float(values.sum())


def newest_log(work_dir: Path) -> Path | None:
    """MMEngine's log of the last training, ``<time>/<time>.log``."""
    return max(work_dir.glob('*/*.log'), key=lambda path: path.name, default=None)


def look_at_val(config: Path, checkpoint: Path, pictures: Path) -> dict[str, dict]:
    """Run the detector over the validation images: draw the first ones, and gather sigmas.

    Args:
        config: the detector's config.
        checkpoint: its weights.
        pictures: folder for ``PICTURES`` images, ground truth on the left, detections on the right.

    Returns:
        dict: for each GMConv its name and, static, ``initial`` and ``sigma``; dynamic, ``initial``
        and over the validation images ``mean``, ``std``, ``min`` and ``max``, each a list with one
        number per predicted sigma: s1 (along x) and s2 (along y).
    """
    cfg = Config.fromfile(str(config))
    model = init_detector(cfg, str(checkpoint), palette='random', device=get_device())
    layers = {name: module for name, module in model.named_modules()
              if isinstance(module, GMConv2d) and module.mask_parameters()}
    predicted: dict[str, list[Tensor]] = {name: [] for name, m in layers.items() if m.dynamic}
    for name, sigmas in predicted.items():
        layers[name].sigma_predictor.register_forward_hook(
            lambda _module, _inputs, output, sigmas=sigmas: sigmas.append(output.cpu()))

    visualizer = VISUALIZERS.build(dict(type='DetLocalVisualizer', name='demo_pictures'))
    visualizer.dataset_meta = model.dataset_meta
    drawn = 0
    for batch in Runner.build_dataloader(cfg.test_dataloader):
        with torch.no_grad():
            samples = model.test_step(batch)
        for sample in samples[:PICTURES - drawn]:
            name = Path(sample.img_path).stem
            visualizer.add_datasample(
                name, mmcv.imread(sample.img_path, channel_order='rgb'), sample.cpu(),
                pred_score_thr=SCORE_THRESHOLD, out_file=str(pictures / f'{name}.png'))
            drawn += 1
    return {name: layer_sigmas(layer, predicted.get(name)) for name, layer in layers.items()}


def layer_sigmas(layer: GMConv2d, predicted: list[Tensor] | None) -> dict:
    """Numbers of one layer for :func:`look_at_val`; ``predicted``: ``(N, 1 or 2)`` a batch."""
    if predicted is None:
        return dict(initial=layer.init_sigma, sigma=layer.sigma.item())
    sigmas = torch.cat(predicted)
    return dict(initial=layer.init_sigma, mean=sigmas.mean(0).tolist(), std=sigmas.std(0).tolist(),
                min=sigmas.amin(0).tolist(), max=sigmas.amax(0).tolist())


def summarize(config: Path, checkpoint: Path, work_dir: Path, evaluation: Path,
              earlier: Collection[Path] = ()) -> dict:
    """Gather the summary, drawing the pictures on the way.

    Returns:
        dict: ``metrics``, ``sigmas`` (see :func:`look_at_val`), ``seconds``, ``epochs``,
        ``iterations``, ``device``, and the paths ``config``, ``checkpoint``, ``log``, ``pictures``.
    """
    pictures = work_dir / 'pictures'
    log = newest_log(work_dir)
    trained = read_checkpoint(checkpoint)
    return dict(
        config=str(config),
        metrics=read_metrics(evaluation, earlier),
        sigmas=look_at_val(config, checkpoint, pictures),
        seconds=dict(training=round(training_seconds(trained))),
        epochs=trained['meta']['epoch'],
        iterations=trained['meta']['iter'],
        device=get_device(),
        checkpoint=str(checkpoint),
        log=str(log),
        pictures=str(pictures))


def write_summary(summary: dict, path: Path) -> None:
    """Write the summary as JSON, complete or not at all."""
    scratch = path.with_suffix('.partial')
    scratch.write_text(json.dumps(summary, indent=2) + '\n')
    os.replace(scratch, path)


def as_text(summary: dict) -> str:
    """The summary for people, below 45 lines for the demo's network."""
    rule, seconds = '=' * 78, summary['seconds']
    lines = [rule, f'GMConv demo: {Path(summary["config"]).stem}', '',
             '  '.join(f'{name} {value:.3f}' for name, value in summary['metrics'].items()),
             f'{summary["epochs"]} epochs, {summary["iterations"]} iterations in '
             f'{seconds["training"] / 60:.1f} min on {summary["device"]}; '
             f'this call took {seconds["this call"] / 60:.1f} min.', '',
             'Learned sigmas, in kernel cells:']
    width = max(map(len, summary['sigmas']), default=0)
    for name, found in summary['sigmas'].items():
        start = f'  {name:<{width}}  {found["initial"]:.2f} -> '
        if 'sigma' in found:
            lines.append(f'{start}{found["sigma"]:.3f}')
            continue
        for i, (mean, std) in enumerate(zip(found['mean'], found['std'])):
            lines.append(f'{start}s{i + 1} {mean:.3f} +- {std:.3f} over the validation images '
                         f'({found["min"][i]:.3f} to {found["max"][i]:.3f})')
    lines += ['', *(f'{name:<11} {summary[name]}' for name in ('checkpoint', 'log', 'pictures')),
              rule]
    return '\n'.join(lines)
