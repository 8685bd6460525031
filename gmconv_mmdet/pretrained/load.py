"""Loads a backbone's weights from checkpoints of every layout and accounts for every tensor."""
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from ..checkpoints.checkpoint_file import CheckpointError, read_checkpoint
from ..checkpoints.fetch import local_file
from ..checkpoints.usable_tensors import refuse_unusable
from ..layers import SIGMA_PATTERNS
from ..layers.find_layers import gm_layers
from ..messages import shortened
from .layouts import find_backbone, why_superfluous
from .load_report import LoadReport
from .map_moves import MAP, kept_maps, multiply_out_maps, refocused_layers
from .mask_moves import DYNAMIC, STATIC, Move, SourceMask, masks_in, move_mask

_PATTERN_IN_CONFIG = re.compile(r'sigma_pattern[\'"]?\s*[=:]\s*[\'"](\w+)[\'"]')


def sigma_pattern_of(checkpoint: dict[str, Any]) -> str | None:
    """What the dynamic masks of a checkpoint predict (Table IV), from what ``state_dict()`` notes, the
    metadata that we publish or the config that MMEngine saves. ``None`` where none says. The tensors
    alone don't tell ``'sigma_pair'`` from ``'sigma_ratio'``."""
    noted = _noted_patterns(checkpoint) | _noted_patterns(checkpoint.get('state_dict'))
    if len(noted) == 1:
        return noted.pop()
    meta = checkpoint.get('meta')
    if not isinstance(meta, Mapping):
        return None
    if meta.get('sigma_pattern') in SIGMA_PATTERNS:
        return str(meta['sigma_pattern'])
    config = meta.get('cfg')
    if not isinstance(config, str) or 'GMResNet' not in config and 'GMBackbone' not in config:
        return None
    named = set(_PATTERN_IN_CONFIG.findall(config)) or {'sigma_ratio'}
    return named.pop() if len(named) == 1 else None


def _noted_patterns(state: object) -> set[str]:
    """The patterns in a state dict's ``_metadata``, see :class:`~gmconv_mmdet.SigmaPredictor`."""
    metadata = getattr(state, '_metadata', None)
    entries = metadata.values() if isinstance(metadata, Mapping) else ()
    return {pattern for pattern in SIGMA_PATTERNS for entry in entries
            if isinstance(entry, Mapping) and entry.get('sigma_pattern') == pattern}


@dataclass
class _Plan:
    """What to write into a network, and what does not fit."""
    values: dict[str, Tensor]
    report: LoadReport
    missing: list[str]
    unexpected: list[str]
    mismatched: dict[str, str]  # name -> the two shapes


def load_pretrained(module: nn.Module,
                    checkpoint: str | Path | dict[str, Any],
                    preserve: bool = True,
                    *,
                    prefix: str | None = None,
                    allow: Sequence[str] = ()) -> LoadReport:
    """Load a backbone's weights, whatever the layout, and account for every tensor.

    Finds the backbone in torchvision, timm, mmpretrain, mmdet, DDP and EMA checkpoints and in ours,
    and moves masks to where the network has them without changing what it computes, see
    :func:`~gmconv_mmdet.pretrained.mask_moves.move_mask`. A RefConv takes a plain weight as its basis;
    a network without it takes the refocused kernel. Nothing is written unless everything fits.

    Args:
        module (nn.Module): a bare backbone (of a detector: ``detector.backbone``).
        checkpoint (str | Path | dict): a path, ``http(s)://``, ``torchvision://`` or
            ``open-mmlab://`` link, or what ``torch.load`` gave.
        preserve (bool): plain weights for a GM layer are divided by its initial mask, so that the
            network computes what the checkpoint's did. ``False`` copies them as they are; the
            network then starts from masked weights.
        prefix (str, optional): what the backbone's names in the checkpoint start with; by default
            it is found.
        allow (Sequence[str]): patterns as of a shell (``'layer3.*.gen_attention*'``) of tensors
            that may be missing, superfluous or of another shape; the network's own start as it
            initialised them.

    Returns:
        LoadReport: lists ``loaded``, ``folded``, ``initialized``, ``ignored``, ``approximated``,
        and the reasons; as ``str`` a table.

    Raises:
        CheckpointError: the checkpoint can't be read or fetched, holds values that are no numbers,
            holds the network more than once, or does not fit: a shape differs, a tensor is missing
            or superfluous without an explanation.
        ValueError: the module is on ``meta``, without values.
        FileNotFoundError: there is no such file.
    """
    refuse_meta(module)
    if isinstance(checkpoint, dict):
        return load_content(module, checkpoint, 'the given dictionary', preserve, prefix, allow)
    return load_content(module, read_checkpoint(local_file(checkpoint)), str(checkpoint), preserve,
                        prefix, allow)


def refuse_meta(module: nn.Module) -> None:
    """Raise a ``ValueError`` for a network whose tensors have no values."""
    without_values = [name for name, tensor in module.state_dict().items() if tensor.is_meta]
    if without_values:
        raise ValueError(f'{type(module).__name__} is on the device meta, where nothing can be '
                         f'loaded ({shortened(without_values)}): call '
                         'module.to_empty(device=\'cpu\') and initialise it first')


def load_content(module: nn.Module, content: dict[str, Any], source: str,
                 preserve: bool = True, prefix: str | None = None, allow: Sequence[str] = ()) -> LoadReport:
    """:func:`load_pretrained` from a checkpoint that was read already; ``source`` is its name in the
    report and in errors."""
    state = module.state_dict()
    try:
        found = find_backbone(content, state, prefix)
        refuse_unusable(found.tensors)
        masks = masks_in(found.tensors, sigma_pattern_of(content))
        tensors, multiplied = multiply_out_maps(found.tensors, kept_maps(state, masks))
    except CheckpointError as error:
        raise CheckpointError(f'{source}: {error}') from error
    plan = _plan(module, state, tensors, masks, preserve, allow, LoadReport(source, found.layout))
    _account_maps(plan.report, multiplied, refocused_layers(module))
    for name in found.outside:
        plan.report.note('ignored', name, 'outside the backbone: ' + name.split('.')[0])
    _name_as_in_source(plan.report, found.source)
    _check(plan, type(module).__name__, hasattr(module, 'backbone'))
    with torch.no_grad():
        for name, value in plan.values.items():
            state[name].copy_(value)
    for name, layer in refocused_layers(module).items():
        if f'{name}.weight' in plan.values:
            layer.settle_basis()
    return plan.report


def _plan(module: nn.Module, state: dict[str, Tensor], tensors: dict[str, Tensor],
          masks: dict[str, SourceMask], preserve: bool, allow: Sequence[str],
          report: LoadReport) -> _Plan:
    layers = gm_layers(module)
    own_masks = {f'{conv}.{own}' for conv in layers for own in (*STATIC, *DYNAMIC)}
    values = {name: tensor for name, tensor in tensors.items() if name in state}
    for conv in {**layers, **masks}:  # dicts: in the order of the network, then of the checkpoint
        weight = f'{conv}.weight'
        if weight not in tensors or weight not in state or tensors[weight].shape != state[
                weight].shape:
            continue  # reported as missing, superfluous or of another shape
        source = masks.get(conv, SourceMask())
        move = move_mask(tensors[weight], source, layers.get(conv), conv, preserve)
        for own in (*STATIC, *DYNAMIC):
            values.pop(f'{conv}.{own}', None)
        values[weight] = move.weight
        values.update({f'{conv}.{own}': value for own, value in move.mask.items()})
        _account(report, conv, source, move)
    plan = _Plan(values, report, [], [], {})
    done = {*report.loaded, *report.folded, *report.initialized}
    for name, tensor in state.items():
        if name in values and values[name].shape != tensor.shape:
            shapes = (f'{tuple(values[name].shape)} in the checkpoint, {tuple(tensor.shape)} in '
                      'the network')
            if _matches(name, allow):
                del values[name]
                report.note('initialized', name, f'allowed: {shapes}')
                report.note('ignored', name, f'allowed: {shapes}')
            else:
                plan.mismatched[name] = shapes
        elif name in done:
            continue
        elif name in values:
            report.note('loaded', name)
        else:
            reason = _why_missing(name, own_masks, allow)
            if reason:
                report.note('initialized', name, reason)
            else:
                plan.missing.append(name)
    for name in tensors:
        if name in state or name in done:
            continue
        reason = why_superfluous(name, state)
        if not reason and _matches(name, allow):
            reason = 'allowed'
        if reason:
            report.note('ignored', name, reason)
        else:
            plan.unexpected.append(name)
    return plan


def _account(report: LoadReport, conv: str, source: SourceMask, move: Move) -> None:
    fate = 'folded' if move.folded else 'loaded'
    report.note(fate, f'{conv}.weight', move.note)
    if move.approximated:
        report.approximated.append(f'{conv}.weight')
    for own in source.tensors:
        report.note(fate, f'{conv}.{own}',
                    'mask, multiplied into its weight' if move.folded else move.note)
    for own in move.mask:
        if own in source.tensors:
            continue
        if source.tensors and not move.folded:
            report.note('loaded', f'{conv}.{own}', move.note)
        else:
            report.note('initialized', f'{conv}.{own}', 'mask, starts at init_sigma')


def _account_maps(report: LoadReport, multiplied: list[str], refocused: Iterable[str]) -> None:
    """Enter the maps that were multiplied out, and say which weights are a basis now."""
    for conv in multiplied:
        weight = f'{conv}.weight'
        if weight in report.loaded:
            report.loaded.remove(weight)
            report.folded.append(weight)
        elif weight not in report.folded:
            continue  # it has no place here, and neither has its map
        was = report.reasons.get(weight)
        report.reasons[weight] = 'refocused kernel of basis and map' + (f', {was}' if was else '')
        own = f'{conv}.{MAP}'
        afresh = own in report.initialized  # the network's, under the same name
        if afresh:
            report.initialized.remove(own)
        report.note('folded', own, 'map, multiplied into its basis' + (
            '; the network\'s own starts as its init says' if afresh else ''))
    for conv in refocused:
        weight = f'{conv}.weight'
        for fate in ('loaded', 'folded'):
            if weight in getattr(report, fate):
                was = report.reasons.get(weight)
                report.reasons[weight] = 'frozen basis' + (f', {was}' if was else '')


def _why_missing(name: str, own_masks: set[str], allow: Sequence[str]) -> str | None:
    if name in own_masks:
        return 'mask, starts at init_sigma'
    if name.endswith('num_batches_tracked'):
        return 'counter, old checkpoints have none'
    if name.endswith(f'.{MAP}'):
        return 'refocusing map, starts as its init says'
    if name.endswith(('.conv_offset.weight', '.conv_offset.bias')):
        return 'offsets of a deformable convolution'
    return 'allowed' if _matches(name, allow) else None


def allowing(unfit: Sequence[str], fit: Sequence[str]) -> list[str]:
    """The fewest patterns for ``allow`` that match all ``unfit`` names and no ``fit`` one: modules
    with nothing that fits, ``'roi_head.bbox_head.fc_cls.*'``, or else the names themselves."""
    taken = {name[:dot.end()] for name in fit for dot in re.finditer(r'\.', name)}
    patterns = (next((f'{name[:dot.end()]}*' for dot in re.finditer(r'\.', name)
                      if name[:dot.end()] not in taken), name) for name in unfit)
    return list(dict.fromkeys(patterns))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _name_as_in_source(report: LoadReport, source: dict[str, str]) -> None:
    """Ignored tensors under their names in the checkpoint; the others have the network's."""
    for at, name in enumerate(report.ignored):
        full = source.get(name)
        if full and full != name:
            report.ignored[at] = full
            report.reasons[full] = (report.reasons[name] if name in report.initialized else
                                    report.reasons.pop(name))


def _check(plan: _Plan, network: str, holds_backbone: bool) -> None:
    problems = {'not in the checkpoint': plan.missing, 'superfluous in the checkpoint':
                plan.unexpected, 'of another shape':
                [f'{name} is {shapes}' for name, shapes in plan.mismatched.items()]}
    if not any(problems.values()):
        return
    fitting = len(plan.report.loaded) + len(plan.report.folded)
    wanted = fitting + len(plan.missing) + len(plan.mismatched)
    if fitting < sum(map(len, problems.values())):
        advice = (' Load into model.backbone, the bare backbone.' if holds_backbone else
                  ' Compare depth and type of the two networks.')
        verdict = f'it holds another architecture, only {fitting} of {wanted} tensors fit.{advice}'
    else:
        patterns = allowing([*plan.mismatched, *plan.missing, *plan.unexpected],
                            [*plan.report.loaded, *plan.report.folded])
        verdict = (f'{fitting} of {wanted} tensors fit, the rest has no explanation. If it may '
                   f'start as initialised or be left out, say so: allow={patterns}.')
    raise CheckpointError('\n'.join([
        f'{plan.report.source} does not fit {network}: {verdict}',
        *(f'  {what} ({len(names)}): {shortened(names, 10)}'
          for what, names in problems.items() if names)]))
