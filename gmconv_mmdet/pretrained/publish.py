"""Turns any checkpoint with a backbone in it into a published one, placing masks anew on the way.

A published backbone holds tensors and a few plain values, loads under plain ``Pretrained`` too, and
has eight digits of its SHA-256 in its name, which a download is checked against.
"""
from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List

import torch
import torch.nn as nn
from torch import Tensor

from ..checkpoints.checkpoint_file import CheckpointError, read_checkpoint
from ..checkpoints.fetch import local_file, sha256
from ..checkpoints.usable_tensors import refuse_unusable
from ..files import write_whole
from ..layers import GMConv2d
from ..version import __version__
from .layouts import bare_backbone
from .load import load_pretrained, sigma_pattern_of
from .load_report import LoadReport
from .map_moves import MAP, kept_maps
from .mask_moves import DYNAMIC, STATIC, SourceMask, masks_in

TARGETS = ('gm', 'plain')
Placement = Callable[[List[str]], Dict[str, str]]
_BLOCK = re.compile(r'layer(\d)\.(\d+)\.')
# Blocks in each stage, and whether they are bottlenecks -> depth.
_DEPTHS: dict[tuple[tuple[int, ...], bool], int] = {
    ((2, 2, 2, 2), False): 18, ((3, 4, 6, 3), False): 34, ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101, ((3, 8, 36, 3), True): 152}


@dataclass(frozen=True)
class Published:
    """What :func:`convert_backbone` wrote."""
    path: Path
    report: LoadReport
    meta: dict[str, Any]


def resnet_depth(names: list[str]) -> int | None:
    """Depth of the ResNet with these state-dict keys, ``None`` for other networks."""
    blocks: dict[int, int] = {}
    for stage, block in _BLOCK.findall(' '.join(names)):
        blocks[int(stage)] = max(blocks.get(int(stage), 0), int(block) + 1)
    bottleneck = any(name.endswith('.conv3.weight') for name in names)
    return _DEPTHS.get((tuple(blocks[stage] for stage in sorted(blocks)), bottleneck))


def _placement(tensors: Mapping[str, Tensor], masks: Mapping[str, SourceMask],
               to: str | Placement | None) -> dict[str, str]:
    convs = [name[:-len('.weight')] for name, tensor in tensors.items()
             if name.endswith('.weight') and tensor.dim() == 4
             and tuple(tensor.shape[2:]) != (1, 1) and not name.endswith(f'.{MAP}')]
    if callable(to):
        return to(convs)
    if to == 'plain':
        return {}
    if to == 'gm':
        if not convs:
            raise CheckpointError('--to gm: the network has no convolution larger than 1x1')
        return {conv: 'dynamic' if conv == convs[0] else 'static' for conv in convs}
    return {conv: mask.kind for conv, mask in masks.items()}


def _skeleton(tensors: Mapping[str, Tensor], placement: Mapping[str, str],
              options: dict[str, Any]) -> nn.Module:
    """A network of the right names and shapes, which can be loaded and saved but not run: strides,
    groups and wiring are not known from a state dict. Names that no module can have are PyTorch's
    ``KeyError``."""
    root = nn.Module()

    def module_at(path: str) -> nn.Module:
        parent = root
        for part in path.split('.') if path else ():
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        return parent

    for conv, kind in placement.items():
        out_channels, in_channels, *kernel = tensors[f'{conv}.weight'].shape
        parent, _, name = conv.rpartition('.')
        module_at(parent).add_module(name, GMConv2d(
            in_channels, out_channels, tuple(kernel), bias=f'{conv}.bias' in tensors,
            dynamic=kind == 'dynamic', **(options if kind == 'dynamic' else {})))
    own = tuple(f'.{name}' for name in (*STATIC, *DYNAMIC))
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition('.')
        if path not in placement and not name.endswith(own):
            dtype = tensor.dtype if not tensor.is_floating_point() else torch.promote_types(
                tensor.dtype, torch.float32)
            module_at(path).register_buffer(leaf, torch.empty(tensor.shape, dtype=dtype))
    return root


def convert_backbone(source: str | Path,
                     destination: str | Path,
                     to: str | Placement | None = None,
                     prefix: str | None = None,
                     half: bool = False) -> Published:
    """Write the backbone in ``source`` as a published backbone.

    Masks move as in :func:`load_pretrained`, without changing what the network computes; with ``to``
    RefConv's maps are multiplied out. Any network will do, not only a ResNet.

    Args:
        source (str | Path): any checkpoint that :func:`load_pretrained` takes.
        destination (str | Path): ``.pth`` or ``.safetensors``; ``-<hash>`` is put before the
            suffix.
        to ('gm' | 'plain' | Callable | None): masks everywhere, dynamic in the first convolution
            (the paper's "GMConv"); nowhere; where a function says, from the names of the
            convolutions larger than 1x1 to ``{name: 'dynamic' | 'static'}``; or where they are.
        prefix (str, optional): of the backbone's names in the source; by default it is found.
        half (bool): kernels in fp16, half the file; masks, biases and batch norms stay as they are.

    Returns:
        Published: the file written, the accounting, and the metadata in the file.

    Raises:
        CheckpointError: the source can't be read or holds no backbone, or an option is out of
            range.
    """
    if to is not None and not callable(to) and to not in TARGETS:
        raise CheckpointError(f'--to must be one of {", ".join(TARGETS)}, got {to!r}')
    destination = Path(destination)
    if destination.suffix not in ('.pth', '.safetensors'):
        raise CheckpointError('the destination must end in .pth or .safetensors, got '
                              f'{destination}')
    file = local_file(source)
    checkpoint = read_checkpoint(file)
    try:
        found = bare_backbone(checkpoint, prefix)
        refuse_unusable(found.tensors)
        pattern = sigma_pattern_of(checkpoint)
        masks = masks_in(found.tensors, pattern)
    except CheckpointError as error:
        raise CheckpointError(f'{source}: {error}') from error
    placement = _placement(found.tensors, masks, to)
    dynamic = [mask for mask in masks.values() if mask.kind == 'dynamic']
    options = _predictor_options(dynamic[0].tensors, pattern) if dynamic else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # new predictors draw their W_0: the same file from the same source
        # A place named for the masks is one for plain kernels under them: maps are multiplied out.
        maps = kept_maps(found.tensors, masks) if to is None else set()
        kept = {name: tensor for name, tensor in found.tensors.items()
                if not name.endswith(f'.{MAP}') or name[:-len(MAP) - 1] in maps}
        try:
            network = _skeleton(kept, placement, options)
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f'{source}: its tensors have names or shapes that no network has '
                                  f'({error.args[0] if error.args else error})') from error
    report = load_pretrained(network, {'state_dict': found.tensors, 'meta': checkpoint.get('meta')},
                             prefix='')
    report.source, report.layout = str(source), found.layout
    for name in found.outside:
        report.note('ignored', name, 'outside the backbone: ' + name.split('.')[0])
    meta = dict(
        gmconv_mmdet=__version__,
        depth=resnet_depth(list(found.tensors)),
        placement=placement,
        sigma_pattern=(options.get('sigma_pattern', 'sigma_ratio')
                       if 'dynamic' in placement.values() else None),
        source=Path(file).name,
        source_sha256=sha256(file),
        approximated=report.approximated)
    state = _in_order(network.state_dict(), found.tensors)
    if half:
        state = {name: _halved(name, tensor) for name, tensor in state.items()}
    path = _write(destination, _serialized(destination.suffix, state, meta))
    return Published(path, report, meta)


def _predictor_options(tensors: Mapping[str, Tensor], pattern: str | None) -> dict[str, Any]:
    """``sigma_pattern`` and ``reduction`` of a predictor, from its tensors."""
    w0, w1 = tensors['sigma_predictor.w0'], tensors['sigma_predictor.w1']
    return dict(sigma_pattern=pattern or ('sigma' if len(w1) == 1 else 'sigma_ratio'),
                reduction=w0.shape[1] / w0.shape[0])


def _in_order(state: dict[str, Tensor], source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` in the source's order, the stem first, with masks beside their weights."""
    place = {name: index for index, name in enumerate(source)}

    def at(name: str) -> int:
        conv = next((name[:-len(own) - 1] for own in (*STATIC, *DYNAMIC)
                     if name.endswith(f'.{own}')), None)
        return place[name if conv is None else f'{conv}.weight']

    return {name: state[name].detach().contiguous() for name in sorted(state, key=at)}


def _halved(name: str, tensor: Tensor) -> Tensor:
    """A kernel in fp16; refused where a value doesn't fit, which would become infinite."""
    if tensor.ndim < 2 or not tensor.is_floating_point() or 'sigma_predictor' in name:
        return tensor
    if tensor.abs().max() > torch.finfo(torch.float16).max:
        raise CheckpointError(f'{name} has values of {float(tensor.abs().max()):.3g}, more than fp16 '
                              'holds: leave half precision out')
    return tensor.half()


def _serialized(suffix: str, state: dict[str, Tensor], meta: dict[str, Any]) -> bytes:
    if suffix == '.safetensors':
        try:
            from safetensors.torch import save
        except ImportError as error:
            raise ImportError('writing .safetensors needs the package safetensors: pip install '
                              'safetensors') from error
        text = {name: value if isinstance(value, str) else json.dumps(value)
                for name, value in meta.items() if value is not None}
        return save(state, metadata=text)
    buffer = io.BytesIO()  # not to the file itself: its name would become part of the content
    torch.save(dict(meta=meta, state_dict=state), buffer)
    return buffer.getvalue()


def _write(destination: Path, content: bytes) -> Path:
    digest = hashlib.sha256(content).hexdigest()
    path = destination.with_name(f'{destination.stem}-{digest[:8]}{destination.suffix}')
    if path.exists():
        if sha256(path) != digest:
            raise CheckpointError(f'{path} exists and holds something else: move it away first')
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda part: part.write_bytes(content))
    return path
