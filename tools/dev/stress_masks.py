"""Train the demo's detector with adversarial learning rates and watch every mask.

    OMP_NUM_THREADS=2 python tools/dev/stress_masks.py
    python tools/dev/stress_masks.py --table      print the table again

The demo's network and images, 64 pixels (``--size``) and 2 images at a time, 2,000 iterations in
fp32 and with backbone and neck in bf16 autocast. Only ``DivergenceHook`` ends a run early. In
every iteration and every GMConv finite sigmas have to give masks in [0, 1], and a finite gradient
of a mask a finite one of its sigma. Finished runs are not repeated.
"""
from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

import gmconv_mmdet.layers.gmconv as gmconv
from gmconv_mmdet.lab.demo.shapes import make_shapes
from gmconv_mmdet.hooks import DivergenceError
from gmconv_mmdet.layers import GMConv2d, gaussian_mask

CONFIG = (Path(__file__).resolve().parents[2] / 'configs' / 'demo'
          / 'faster-rcnn_r18-gm_fpn_shapes.py')
ITERATIONS = 2000
PRECISIONS = ('fp32', 'bf16')
# What is changed in the demo's recipe (AdamW, 1e-3, gradients clipped at 10): the learning rate of
# everything, of sigmas and their predictors alone, and an optimizer without brakes.
RECIPES = {
    'lr x 100': dict(lr=1e-1),
    'sigma lr x 10,000': dict(sigma_mult=1e4),
    'SGD lr 1, no clipping': dict(sgd=1.0),
}


class MaskWatch:
    """Stands in for ``gaussian_mask`` in the layers: looks at every mask and gradient."""

    def __init__(self) -> None:
        self.masks = self.bad_masks = self.gradients = self.bad_gradients = 0
        self.smallest, self.largest = float('inf'), 0.0

    def __call__(self, kernel_size: tuple, sigma: Tensor) -> Tensor:
        sigma = sigma.view_as(sigma)  # a node of its own: a parameter would keep the hooks below
        mask = gaussian_mask(kernel_size, sigma)
        values = sigma.detach().abs()
        if values.isfinite().all():
            self.masks += 1
            # NaN fails both comparisons.
            self.bad_masks += not bool(((mask >= 0) & (mask <= 1)).all())
            self.smallest = min(self.smallest, float(values.min()))
            self.largest = max(self.largest, float(values.max()))
        if sigma.requires_grad:
            came = []
            mask.register_hook(lambda grad: came.append(bool(grad.isfinite().all())))
            sigma.register_hook(lambda grad: self._gradient(came, grad))
        return mask

    def _gradient(self, came: list, gradient: Tensor) -> None:
        if came and came[-1]:
            self.gradients += 1
            self.bad_gradients += not bool(gradient.isfinite().all())


@HOOKS.register_module()
class WholeRunHook(Hook):
    """Keeps the last iteration and the losses."""

    def __init__(self, record: dict) -> None:
        self.record = record

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.record['iterations'] = runner.iter + 1
        loss = float(outputs['loss'])
        self.record['last_loss'] = loss
        self.record['largest_loss'] = max(self.record.get('largest_loss', 0.0), loss)
        if (runner.iter + 1) % 250 == 0:
            print(f'  {runner.iter + 1}: loss {loss:.3g}', flush=True)


def adapted_config(recipe: dict, work_dir: Path, data: Path, iterations: int,
                   size: int = 64) -> Config:
    """The demo's config with a recipe of :data:`RECIPES`, by iterations and without evaluation."""
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(work_dir)
    cfg.train_pipeline[2].scale = (size, size)
    cfg.train_dataloader.dataset.update(
        data_root=str(data) + '/', pipeline=cfg.train_pipeline)
    cfg.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False,
                                sampler=dict(type='InfiniteSampler', shuffle=True))
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=10**9)
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator', 'test_dataloader', 'test_cfg',
                'test_evaluator', 'param_scheduler'):
        cfg[key] = None
    if 'sgd' in recipe:
        cfg.optim_wrapper = dict(optimizer=dict(type='SGD', lr=recipe['sgd'], momentum=0.9))
    else:
        cfg.optim_wrapper.optimizer.lr = recipe.get('lr', 1e-3)
        cfg.optim_wrapper.paramwise_cfg.custom_keys.sigma.lr_mult = recipe.get('sigma_mult', 1.0)
    cfg.default_hooks.checkpoint = None
    cfg.default_hooks.logger.interval = 500
    cfg.custom_hooks = [dict(type='DivergenceHook')]
    cfg.log_level = 'WARNING'
    cfg.experiment_name = f'stress_masks-{time.monotonic_ns()}'
    return cfg


def run(name: str, precision: str, work_dir: Path, data: Path, iterations: int,
        size: int) -> dict:
    """Train once; the record of it."""
    record = dict(recipe=name, precision=precision, size=size, iterations=0, stopped='')
    runner = Runner.from_cfg(adapted_config(RECIPES[name], work_dir, data, iterations, size))
    runner.register_hook(WholeRunHook(record))
    if precision == 'bf16':
        _autocast(runner.model)
    watch = MaskWatch()
    original, gmconv.gaussian_mask = gmconv.gaussian_mask, watch
    begun = time.monotonic()
    try:
        runner.train()
    except DivergenceError as error:
        record['stopped'] = str(error).split('. Nothing')[0]
    except Exception as error:  # what mmdet's heads make of wild numbers is of interest too
        record['stopped'] = f'{type(error).__name__}: {error}'
    finally:
        gmconv.gaussian_mask = original
    layers = [m for m in runner.model.modules() if isinstance(m, GMConv2d) and m.mask_parameters()]
    return dict(record, seconds=round(time.monotonic() - begun), layers=len(layers),
                masks=watch.masks, bad_masks=watch.bad_masks, mask_gradients=watch.gradients,
                bad_mask_gradients=watch.bad_gradients, smallest_sigma=watch.smallest,
                largest_sigma=watch.largest)


def _autocast(model: torch.nn.Module) -> None:
    """Backbone and neck in bf16. Not the heads: mmcv's RoIAlign knows no bfloat16 on a CPU."""
    for part in (model.backbone, model.neck):
        part.forward = torch.autocast('cpu', dtype=torch.bfloat16)(part.forward)
    model.neck.register_forward_hook(
        lambda neck, features, maps: tuple(feature_map.float() for feature_map in maps))


def table(records: list[dict]) -> str:
    """The records as Markdown."""
    lines = ['| recipe | precision | pixels | iterations | largest, last loss | masks looked at | '
             'abs(sigma) from, to | bad masks | bad gradients | ended |', '|' + '---|' * 10]
    for r in records:
        lines.append(
            f'| {r["recipe"]} | {r["precision"]} | {r["size"]} | {r["iterations"]:,} | '
            f'{r.get("largest_loss", 0):.3g}, {r.get("last_loss", 0):.3g} | {r["masks"]:,} | '
            f'{r["smallest_sigma"]:.2g}, {r["largest_sigma"]:.3g} | {r["bad_masks"]} | '
            f'{r["bad_mask_gradients"]} of {r["mask_gradients"]:,} | {r["stopped"] or "whole"} |')
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/stress_masks'))
    parser.add_argument('--json', type=Path, default=Path('work_dirs/stress_masks/results.json'))
    parser.add_argument('--iterations', type=int, default=ITERATIONS)
    parser.add_argument('--size', type=int, default=64, help='pixels (default: %(default)s)')
    parser.add_argument('--recipes', nargs='+', choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument('--precisions', nargs='+', choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument('--table', action='store_true', help='print the table, run nothing')
    args = parser.parse_args()
    records = json.loads(args.json.read_text()) if args.json.exists() else []
    data = args.work_dir.absolute() / 'shapes'
    if not args.table:
        warnings.filterwarnings('ignore')
        data.parent.mkdir(parents=True, exist_ok=True)
        make_shapes(data)
    if not args.table:
        for precision in args.precisions:
            for name in args.recipes:
                if any((r['recipe'], r['precision']) == (name, precision) for r in records):
                    continue
                print(f'{name}, {precision}', flush=True)
                records.append(run(name, precision, args.work_dir, data, args.iterations,
                                   args.size))
                args.json.parent.mkdir(parents=True, exist_ok=True)
                args.json.write_text(json.dumps(records, indent=1) + '\n')
    print(table(records))


if __name__ == '__main__':
    main()
