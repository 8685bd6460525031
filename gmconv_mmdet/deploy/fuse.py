"""From a trained detector to a folded one: a checkpoint and a config, verified before they are
written."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn as nn
from torch import Tensor

from ..backbones import GMResNet
from ..conversion.fold import fold_gmconv, folding_changes
from ..files import write_text, write_whole
from ..layers import GMConv2d, RefConv2d
from ..layers.find_layers import dynamic_layers
from .annotated_images import annotated_images, coco_metrics
from .average_stem import average_masks, watch_sigmas
from .onnx import largest_difference
from .plain_config import PACKAGE, folded_config, names_in, our_names
from .trained_detector import build_detector, trained_detector

STEMS = ('keep', 'average')
TOLERANCE = 1e-4  # relative to the largest value of a feature map
METRIC_TOLERANCE = 5e-5  # four digits
_RANDOM_SIZES = ((2, 128, 160), (1, 97, 203))


class FuseError(Exception):
    """Nothing was written; the text says why."""


@dataclass
class FuseReport:
    """What :func:`fuse` did. Differences are of feature maps, relative to each map's largest value."""
    folded: dict[str, str]  # layers that became plain convolutions: name -> kind
    averaged: dict[str, Tensor]  # dynamic layers that did: name -> sigmas (images, 1 or 2)
    left: dict[str, str]  # masked or deformable convolutions that stay: name -> kind
    needs_package: list[str]  # what the new config names of this package; empty for stock mmdet
    difference: float  # on random images, without that of averaging
    checkpoint: Path  # written
    config: Path  # written
    average_difference: list[float] = field(default_factory=list)  # on each calibration image
    before: dict[str, float] = field(default_factory=dict)  # COCO metrics on calibration images
    after: dict[str, float] = field(default_factory=dict)

    def text(self) -> str:
        counts = Counter(self.folded.values()) or {'static GMConv': 0}
        lines = ['folded exactly: ' + ', '.join(f'{n} {kind}' for kind, n in counts.items())]
        for name, sigmas in self.averaged.items():
            lines.append(f'APPROXIMATED {name}: one mask for all images, of the average over '
                         f'{len(sigmas)}')
            lines += [f'  s{i + 1}: mean {s.mean():.4g}, standard deviation '
                      f'{s.std(correction=0):.4g}, from {s.min():.4g} to {s.max():.4g}'
                      for i, s in enumerate(sigmas.unbind(1))]
        kinds = list(self.left.values())
        lines += [f'left as it is: {kinds.count(kind)} {kind} '
                  f'({", ".join(name for name, k in self.left.items() if k == kind)})'
                  for kind in dict.fromkeys(kinds)]
        lines.append(f'feature maps on random images differ by {self.difference:.1e} of their '
                     'largest value')
        if self.average_difference:
            found = torch.tensor(self.average_difference)
            lines.append('averaging changes feature maps on the calibration images by '
                         f'{found.mean():.1e} of their largest value in the mean, '
                         f'{found.max():.1e} at most')
        if self.before:
            lines += [f'{"":12}  before   after'] + [
                f'{name:12} {value:7.4f} {self.after[name]:7.4f}'
                for name, value in self.before.items()]
        lines.append('runs in stock mmdet, without this package' if not self.needs_package else
                     f'needs {PACKAGE} for: {", ".join(self.needs_package)}')
        return '\n'.join([*lines, f'written: {self.checkpoint}', f'written: {self.config}'])


def fuse(config: str | Path, checkpoint: str | Path, out: str | Path, stem: str = 'keep',
         calib: tuple[str | Path, str | Path] | None = None, force: bool = False) -> FuseReport:
    """Fold a trained detector and write ``out.pth`` and ``out.py``.

    The new model is built from the new config and loaded strictly; its feature maps are compared
    with the trained model's on random images, and where ``calib`` is given its COCO metrics as
    well, to four digits. Files are written only then.

    Args:
        config (str | Path): the trained detector's.
        checkpoint (str | Path): its weights.
        out (str | Path): where to write; a suffix ``.pth`` or ``.py`` is taken off.
        stem ('keep' | 'average'): dynamic layers stay, or each gets the mask of its average sigmas
            over the calibration images, which is an approximation.
        calib (tuple, optional): a COCO annotation file and its image folder.
        force (bool): replace files that are there.

    Raises:
        FuseError: nothing to fold, files in the way, averaging without images, or a difference.
        FileNotFoundError, CheckpointError, ValueError: see :func:`trained_detector`,
            :func:`annotated_images`.
    """
    if stem not in STEMS:
        raise FuseError(f'stem must be one of {STEMS}, got {stem!r}')
    if stem == 'average' and calib is None:
        raise FuseError('an average stem needs calibration images: --calib ANN_FILE IMAGE_FOLDER')
    out = Path(out).with_suffix('') if Path(out).suffix in ('.pth', '.py') else Path(out)
    targets = [out.with_name(f'{out.name}.pth'), out.with_name(f'{out.name}.py')]
    there = [str(target) for target in targets if target.exists()]
    if there and not force:
        raise FuseError(f'{" and ".join(there)} exist{"s" * (len(there) == 1)}; --force replaces')
    cfg, model, meta = trained_detector(config, checkpoint)
    images = annotated_images(cfg, *calib) if calib else None

    with watch_sigmas(model) as seen:
        before = coco_metrics(model, images) if images else {}
    averaged, reference = {}, model
    if stem == 'average':
        averaged = {name: torch.cat(sigmas) for name, sigmas in seen.items()}
        reference = average_masks(model, {name: s.mean(0) for name, s in averaged.items()})
    keep = _inexpressible(reference)
    folded = {name: _kind(module) for name, module in model.named_modules()
              if folding_changes(module) and name not in keep}
    if not folded and not averaged:
        raise FuseError(f'{checkpoint} has no static GMConv or RefConv to fold' + (
            ': only dynamic ones, which --stem average approximates'
            if dynamic_layers(model) else ''))
    state = fold_gmconv(reference, keep=keep).state_dict()
    new_cfg = folded_config(cfg, keep_dynamic=bool(dynamic_layers(reference)))
    shipped = build_detector(new_cfg, state, 'the folded model')

    report = FuseReport(
        folded, averaged, _left(shipped), sorted(our_names() & set(names_in(new_cfg.to_dict()))),
        feature_difference(shipped.extract_feat, reference.extract_feat), targets[0], targets[1],
        before=before)
    if not report.difference <= TOLERANCE:
        raise FuseError(f'folded, the feature maps differ by {report.difference:.1e} of their '
                        f'largest value, more than {TOLERANCE:.0e}; nothing was written')
    if images:
        beside = (lambda batch: report.average_difference.append(largest_difference(
            shipped.extract_feat(batch), model.extract_feat(batch)))) if averaged else None
        report.after = coco_metrics(shipped, images, beside)
        off = [f'{name} {value:.5f} -> {report.after[name]:.5f}' for name, value in before.items()
               if abs(value - report.after[name]) > METRIC_TOLERANCE]
        if off and not averaged:
            raise FuseError(f'folded, COCO metrics differ: {", ".join(off)}; nothing was written')
    kept = {key: meta[key] for key in ('dataset_meta', 'epoch', 'iter') if key in meta}
    done = dict(folded=list(folded), averaged={name: sigmas.mean(0).tolist()
                                               for name, sigmas in averaged.items()})
    text = new_cfg.pretty_text
    targets[0].parent.mkdir(parents=True, exist_ok=True)
    write_whole(targets[0], lambda part: torch.save(
        dict(meta={**kept, 'cfg': text, PACKAGE: done}, state_dict=state), part))
    write_text(targets[1], text)
    return report


def _inexpressible(model: nn.Module) -> set[str]:
    """Static layers that have to stay because no config would build the folded network: those of a
    deep stem whose first convolution is dynamic. (``gm_stem`` speaks of the stem as a whole.)"""
    return {f'{name}.{conv}' for name, module in model.named_modules()
            if isinstance(module, GMResNet) and dynamic_layers(module)
            for conv, kind in module.placement().items()
            if kind.startswith('static') and not conv.startswith('layer')}


def _left(model: nn.Module) -> dict[str, str]:
    """Convolutions of the shipped model that aren't plain ones: masked, deformable and so on."""
    left: dict[str, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, GMConv2d) and (module.dynamic or module.sigma is not None):
            left[name] = _kind(module)
        elif 'Deform' in type(module).__name__ and hasattr(module, 'kernel_size'):
            left[name] = type(module).__name__
    return left


def _kind(layer: nn.Conv2d) -> str:
    if isinstance(layer, RefConv2d):
        return 'RefConv'
    return f'{"dynamic" if layer.dynamic else "static"} GMConv'


@torch.no_grad()
def feature_difference(network: Callable, reference: Callable) -> float:
    """:func:`largest_difference` of what two networks make of random images of two sizes."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(n, 3, h, w, generator=generator) for n, h, w in _RANDOM_SIZES]
    return max(largest_difference(network(image), reference(image)) for image in images)
