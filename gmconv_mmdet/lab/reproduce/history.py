"""What is kept of a training: curves, sigmas and masks, some detections; code and environment."""
from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from mmengine.config import Config

import gmconv_mmdet

from ...checkpoints.checkpoint_file import read_checkpoint
from ...pretrained.mask_moves import masks_in

MOST_POINTS = 60  # of a curve
SAMPLES = 3  # validation images whose detections are kept
LEAST_SCORE = 0.3
# Values of SigmaLogHook that are kept; `/<layer>` follows.
_MASK_SCALARS = ('sigma', 'sigma_x', 'sigma_y', 'b1_sigma', 'b1_ratio', 'b1_sigma_x', 'b1_sigma_y',
                 'effective_kernel')
_PACKAGES = ('torch', 'torchvision', 'mmcv', 'onedl-mmcv', 'mmengine', 'onedl-mmengine', 'mmdet',
             'onedl-mmdetection', 'numpy', 'pycocotools', 'faster-coco-eval')
_DRIFT = ('_by_decay', '_by_gradient')


def read_scalars(train_dir: Path) -> Iterator[dict]:
    """All that MMEngine logged in a training, launch by launch; lines that a kill cut off are left
    out."""
    for path in sorted(train_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text(encoding='utf-8', errors='replace').split('\n'):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and 'step' in entry:
                yield entry


def curves(train_dir: Path) -> dict:
    """``epochs``: COCO metrics of each validation; ``loss`` and ``sigmas``: ``steps`` and values,
    at most :data:`MOST_POINTS`. What was repeated after a kill counts once, the last time."""
    epochs: dict[int, dict] = {}
    losses: dict[int, float] = {}
    masks: dict[int, dict] = {}
    for entry in read_scalars(train_dir):
        step = int(entry['step'])
        metrics = {key.rpartition('bbox_')[2]: round(100 * value, 1)
                   for key, value in entry.items()
                   if 'bbox_mAP' in key and isinstance(value, (int, float))}
        metrics.pop('mAP_copypaste', None)
        if metrics:
            epochs[step] = metrics
        elif 'loss' in entry:
            losses[step] = float(f'{entry["loss"]:.5g}')
        kept = {key: float(f'{value:.6g}') for key, value in entry.items() if _is_kept(key)}
        if kept:
            masks[step] = kept
    steps = _thinned(sorted(masks))
    names = sorted({name for step in steps for name in masks[step]})
    loss_steps = _thinned(sorted(losses))
    return dict(
        epochs=[dict(epoch=epoch, **epochs[epoch]) for epoch in sorted(epochs)],
        loss=dict(steps=loss_steps, values=[losses[step] for step in loss_steps]),
        sigmas=dict(steps=steps, values={name: [masks[step].get(name) for step in steps]
                                         for name in names}))


def _is_kept(key: str) -> bool:
    kind = key.partition('/')[0]
    for ending in _DRIFT:
        if kind.endswith(ending):
            kind = kind[:-len(ending)]
    return '/' in key and kind in _MASK_SCALARS


def _thinned(steps: list[int]) -> list[int]:
    """Evenly spread, the first and the last among them."""
    if len(steps) <= MOST_POINTS:
        return steps
    return [steps[round(i * (len(steps) - 1) / (MOST_POINTS - 1))] for i in range(MOST_POINTS)]


def trained_masks(checkpoint: Path, cfg: Config) -> list[dict]:
    """Every mask in a checkpoint: ``layer``, ``kernel`` (h, w), ``dynamic``, ``sigma`` (x, y) in
    kernel cells without sign; of a dynamic layer for a blank image."""
    state = read_checkpoint(checkpoint)
    pattern = (cfg.model.get('backbone', {}).get('gm_cfg') or {}).get('sigma_pattern')
    return masks_of_state(state.get('state_dict', state), pattern)


def masks_of_state(state: dict, pattern: str | None = None) -> list[dict]:
    """:func:`trained_masks` of a state dict."""
    return [dict(layer=layer, kernel=list(state[f'{layer}.weight'].shape[2:]),
                 dynamic=mask.kind == 'dynamic',
                 sigma=[float(f'{value:.6g}') for value in mask.sigmas().abs().tolist()])
            for layer, mask in masks_in(state, pattern).items()]


def sample_detections(cfg: Config, checkpoint: Path) -> list[dict]:
    """What a trained detector finds in the first, the middle and the last validation image:
    ``image`` (path), ``width``, ``height``, and ``truth`` and ``found`` as lists of
    ``[x1, y1, x2, y2, class, score]`` in pixels, ``found`` from a score of 0.3 on."""
    from mmdet.apis import inference_detector, init_detector
    from mmdet.registry import DATASETS
    from mmengine.registry import init_default_scope
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    names = dataset.metainfo['classes']
    model = init_detector(cfg, str(checkpoint), device='cpu')
    samples = []
    for index in sorted({0, len(dataset) // 2, len(dataset) - 1})[:SAMPLES]:
        info = dataset.get_data_info(index)
        found = inference_detector(model, info['img_path']).pred_instances
        chosen = found[found.scores >= LEAST_SCORE]
        samples.append(dict(
            image=str(info['img_path']), width=info['width'], height=info['height'],
            truth=[[*map(float, instance['bbox']), names[instance['bbox_label']], 1.0]
                   for instance in info['instances'] if not instance.get('ignore_flag')],
            found=[[*(round(value, 1) for value in box), names[label], round(score, 3)]
                   for box, label, score in zip(chosen.bboxes.tolist(), chosen.labels.tolist(),
                                                chosen.scores.tolist())]))
    return samples


def code_version() -> str:
    """The commit of the checkout that the package runs from, ``+changes`` if it has been edited;
    the package's version where it isn't a checkout."""
    root = Path(gmconv_mmdet.__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(['git', '-C', str(root), *arguments], capture_output=True, text=True,
                              check=True).stdout.strip()

    try:
        if Path(git('rev-parse', '--show-toplevel')).resolve() != root:
            raise FileNotFoundError('installed somewhere inside another checkout')
        changes = git('status', '--porcelain', '--untracked-files=no')
        return git('rev-parse', 'HEAD') + ('+changes' if changes else '')
    except (OSError, subprocess.CalledProcessError):
        return f'version {gmconv_mmdet.__version__}'


def environment() -> dict[str, str]:
    """MMEngine's description of the machine and the versions of the packages that matter."""
    from mmengine.utils.dl_utils import collect_env
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    # Long descriptions (how torch was compiled) stand in the run's log, where MMEngine prints them.
    machine = {key: str(value) for key, value in collect_env().items() if len(str(value)) < 100}
    return {**machine, **versions, 'gmconv_mmdet': gmconv_mmdet.__version__}
