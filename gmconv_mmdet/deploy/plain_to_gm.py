"""A trained plain detector's or backbone's checkpoint for a config with GMConv or RefConv, checked
before it is written. (The other way is :mod:`~gmconv_mmdet.deploy.fuse`.)"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.config import Config

from ..checkpoints.checkpoint_file import CheckpointError, read_checkpoint
from ..checkpoints.fetch import local_file, sha256
from ..files import write_whole
from ..layers import RefConv2d
from ..layers.find_layers import gm_layers
from ..openmmlab.config_file import read_config
from ..pretrained.detector import FEATURES, load_detector
from ..pretrained.layouts import find_backbone
from ..pretrained.load import load_pretrained
from ..pretrained.load_report import LoadReport
from ..version import __version__
from .fuse import TOLERANCE, feature_difference
from .plain_config import folded_config
from .trained_detector import new_detector


@dataclass
class Converted:
    """What :func:`plain_to_gm` wrote."""
    path: Path
    report: LoadReport  # what became of every tensor
    placement: dict[str, str]  # layer -> 'dynamic', 'static' or 'RefConv'
    difference: float  # of feature maps on random images, relative to each map's largest value
    as_they_were: list[str]  # tensors of the heads that don't fit the config's, kept unchanged
    left_out: list[str]  # tensors of the heads that only the config or the checkpoint has


def plain_to_gm(config: str | Path, checkpoint: str | Path, out: str | Path,
                backbone_only: bool = False, force: bool = False) -> Converted:
    """Write a checkpoint for the model of ``config`` that computes what a plain one does.

    Layers of ours get the plain weights divided by their initial mask, in backbone, neck and heads,
    wherever the config places them. Backbone and neck must fit. Tensors of the heads that have
    another shape, for another number of classes, are kept as they are: ``load_from`` passes over
    them, as with the plain checkpoint.

    The file is written only when the feature maps on random images are those of the plain model
    (which the config is without layers of ours) to 1e-4 of their largest value, and every single
    layer's kernel times its mask is the plain kernel.

    Args:
        config (str | Path): of a detector with GMConv or RefConv.
        checkpoint (str | Path): path or link of the plain detector's, without the config's layers of
            ours; with ``backbone_only`` of a backbone in any layout that :func:`load_pretrained`
            knows.
        out (str | Path): the ``.pth`` file.
        backbone_only (bool): convert and write the backbone alone, with its bare names.
        force (bool): replace ``out``.

    Raises:
        FileExistsError: ``out`` exists.
        FileNotFoundError: there is no such config or checkpoint.
        CheckpointError: the checkpoint can't be read, doesn't fit, has masks that depend on the
            image, or the converted network computes something else.
        ConfigError: the config can't be read or built, or has no layer of ours.
    """
    out = Path(out)
    if out.exists() and not force:
        raise FileExistsError(f'{out} exists; --force replaces it')
    cfg = read_config(config)
    file = local_file(checkpoint)
    content = read_checkpoint(file)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # new predictors draw their W_0: the same file from the same source
        model, plain = new_detector(cfg), new_detector(folded_config(cfg, keep_dynamic=False))
    if backbone_only:
        model, plain = model.backbone, plain.backbone
    placement = _placement(model)
    if not placement:
        raise CheckpointError(f'{config} has no GMConv or RefConv'
                              f'{" in its backbone" * backbone_only}: there is nothing to convert')
    load = load_pretrained if backbone_only else load_detector
    report, of_plain = load(model, file), load(plain, file)
    report.source = str(checkpoint)
    if report.approximated or of_plain.approximated:
        raise CheckpointError(f'{checkpoint} has masks that depend on the image: it is no plain '
                              'network\'s. tools/model_converters/convert_backbone.py moves masks')
    unfit = [name for name in report.initialized if not backbone_only
             and name.split('.')[0] not in FEATURES
             and report.reasons[name].startswith('allowed')]
    difference = _checked_difference(model, plain, placement, unfit, backbone_only)

    state = model.state_dict()
    source = find_backbone(content, state).tensors
    for name in unfit:
        del state[name]
        if name in source:
            state[name] = source[name]
    kept = [name for name in unfit if name in source]
    _write(out, state, content, cfg, placement, Path(file))
    return Converted(out, report, placement, difference, kept,
                     [name for name in (*unfit, *report.ignored) if name not in kept])


def _placement(model: nn.Module) -> dict[str, str]:
    placement = {name: 'dynamic' if layer.dynamic else 'static'
                 for name, layer in gm_layers(model).items()}
    placement.update((name, 'RefConv') for name, layer in model.named_modules()
                     if isinstance(layer, RefConv2d))
    return placement


@torch.no_grad()
def _checked_difference(model: nn.Module, plain: nn.Module, placement: dict[str, str],
                        unfit: list[str], is_backbone: bool) -> float:
    model.eval()  # mmdet's returns None
    plain.eval()
    for name, layer in gm_layers(model).items():
        if f'{name}.weight' in unfit:
            continue
        x = torch.zeros(1, layer.in_channels, *layer.kernel_size)  # a new predictor looks at nothing
        kernel = layer.weight * layer.mask(x if layer.dynamic else None)
        wanted = plain.get_submodule(name).weight
        if not (kernel - wanted).abs().max() <= TOLERANCE * wanted.abs().max():
            raise CheckpointError(f'{name}: kernel times mask is not the plain kernel; nothing was '
                                  'written')
    difference = feature_difference(*(network if is_backbone else network.extract_feat
                                      for network in (model, plain)))
    if not difference <= TOLERANCE:
        raise CheckpointError(
            f'the feature maps differ by {difference:.1e} of their largest value, more than '
            f'{TOLERANCE:.0e}; nothing was written. A RefConv changes the function from the start '
            'unless init=\'identity\'')
    return difference


def _write(out: Path, state: dict, content: dict, cfg: Config, placement: dict[str, str],
           file: Path) -> None:
    meta = content.get('meta')
    kept = {'dataset_meta': meta['dataset_meta']} if isinstance(meta, dict) and isinstance(
        meta.get('dataset_meta'), dict) else {}
    meta = dict(kept, cfg=cfg.pretty_text, gmconv_mmdet=__version__, placement=placement,
                source=file.name, source_sha256=sha256(file))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, lambda part: torch.save(dict(meta=meta, state_dict=state), part))
