"""Finds a backbone's tensors in checkpoints of every layout.

A layout is where the tensors are kept (``state_dict``, an EMA copy, the top level), what their
names start with (``module.``, ``backbone.``), and what the network's author called a few of them
(the deep stem of timm's and of mmpretrain's ResNets). All three are told by the names that the
target expects.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..checkpoints.checkpoint_file import CheckpointError
from ..checkpoints.usable_tensors import tensors_by_name

# Where training codes keep weights, the averaged ones first. MMEngine's EMAHook saves the averaged
# weights as `state_dict` and the raw ones as `ema_state_dict`, hence their order here.
_CONTAINERS = ('state_dict_ema', 'model_ema', 'state_dict', 'model', 'ema_state_dict')

_LONGEST_SHOWN = 100  # characters of a name in a message

# Names that one copy of a network may have and another lack: what masks and maps add, and counters.
_OPTIONAL = ('.num_batches_tracked', '.sigma', '.sigma_predictor.w0', '.sigma_predictor.w1',
             '.sigma_predictor.b1', '.convmap.weight')

# Classifiers in the names of torchvision, timm and mmpretrain.
_HEAD = re.compile(r'^(fc|classifier|heads?|head_dist|last_linear|output)\.')
_STAGE = re.compile(r'^layer(\d+)\.')
_BACKBONE = re.compile(r'^(.*\.)?backbone\.')


def _same(name: str) -> str:
    return name


def _timm_deep_stem(name: str) -> str:
    # conv1 = Sequential(conv, bn, relu, conv, bn, relu, conv) and bn1
    return re.sub(r'^bn1\.', 'stem.7.', re.sub(r'^conv1\.(\d)\.', r'stem.\1.', name))


def _mmpretrain_deep_stem(name: str) -> str:
    # stem = Sequential of three ConvModules (conv, bn)
    part = re.match(r'^stem\.(\d)\.(conv|bn)\.(.*)', name)
    return f'stem.{3 * int(part[1]) + (part[2] == "bn")}.{part[3]}' if part else name


def _mmpretrain_resnet_d(name: str) -> str:
    # Where the stride is 1 mmpretrain has no pooling before the shortcut's convolution, mmdet has.
    shortcut = re.match(r'^(layer1\.0\.downsample)\.([01])\.(.*)', name)
    return (f'{shortcut[1]}.{int(shortcut[2]) + 1}.{shortcut[3]}' if shortcut else
            _mmpretrain_deep_stem(name))


_RENAMES: dict[str, Callable[[str], str]] = {
    '': _same,
    'timm deep stem': _timm_deep_stem,
    'mmpretrain deep stem': _mmpretrain_deep_stem,
    'mmpretrain ResNet-D': _mmpretrain_resnet_d,
}


@dataclass(frozen=True)
class FoundBackbone:
    """A backbone's tensors under the target's names, and where they were."""
    tensors: dict[str, Tensor]
    source: dict[str, str]  # name -> its full name in the checkpoint
    layout: str  # 'state_dict, prefix "backbone."'
    outside: list[str] = field(default_factory=list)  # names that belong to the rest of a model


def _prefixes(names: Collection[str], expected: Collection[str]) -> dict[str, set[str]]:
    """Prefix -> the names with it behind which an expected one stands."""
    found: dict[str, set[str]] = {}
    for name in names:
        for start in (0, *(dot.end() for dot in re.finditer(r'\.', name))):
            if name[start:] in expected:
                found.setdefault(name[:start], set()).add(name)
    return found


def _place(containers: dict[str, dict[str, Tensor]], essential: Collection[str],
           prefix: str | None) -> tuple[str, str] | None:
    """The container and the prefix behind which the network's names stand. Of the containers the
    first with more than half as many of them as any.

    Raises:
        CheckpointError: there are two places in that container.
    """
    found = {container: _prefixes(tensors, essential)
             for container, tensors in containers.items()}
    if prefix is not None:
        found = {container: {prefix: places.get(prefix, set())}
                 for container, places in found.items()}
    counts = {container: max(map(len, places.values()), default=0)
              for container, places in found.items()}
    most = max(counts.values())
    if not most:
        return None
    container = next(name for name, count in counts.items() if 2 * count > most)
    places = found[container]
    best = max(places, key=lambda place: len(places[place]))
    # Another place holds other tensors, not those of the best one's stages, and about as many. If
    # the best is not half of the network, it is another architecture, which is said elsewhere.
    rivals = [place for place, names in places.items()
              if 2 * len(names - places[best]) > counts[container]]
    if rivals and 2 * counts[container] > len(essential):
        raise _more_than_once('this network more than once', sorted([best, *rivals]))
    return container, best


def _more_than_once(what: str, places: list[str]) -> CheckpointError:
    return CheckpointError(f'the checkpoint holds {what}, behind the prefixes '
                           f'{", ".join(map(repr, places[:8]))}{", ..." * (len(places) > 8)}: say '
                           'which with prefix=')


def find_backbone(checkpoint: dict[str, Any], expected: Collection[str],
                  prefix: str | None = None) -> FoundBackbone:
    """The tensors in ``checkpoint`` that belong to a network with the state-dict keys ``expected``.

    Args:
        checkpoint (dict): as :func:`read_checkpoint` returns it, or a bare state dict.
        expected (Collection[str]): keys of the network's ``state_dict()``.
        prefix (str, optional): take what stands behind this prefix, ``'student.backbone.'`` say.
            By default the only one with the expected names behind it.

    Raises:
        CheckpointError: no tensors at all; nothing that fits; or two places that fit, whether or
            not one of them lacks counters, masks or a few names more.
    """
    wanted, expected = list(expected), set(expected)
    containers = {name: tensors_by_name(checkpoint.get(name)) for name in _CONTAINERS}
    containers['the top level'] = tensors_by_name(checkpoint)
    containers = {name: tensors for name, tensors in containers.items() if tensors}
    if not containers:
        raise CheckpointError('the checkpoint holds no tensors: its entries are '
                              f'{_listed(checkpoint, 8)}. A state dict, or one under any of '
                              f'{", ".join(_CONTAINERS)}, is expected')
    if prefix is not None and prefix and not prefix.endswith('.'):
        prefix += '.'
    essential = {name for name in expected if not f'.{name}'.endswith(_OPTIONAL)}
    place = _place(containers, essential or expected, prefix)
    if place is None:
        some = next(iter(containers.values()))
        raise CheckpointError(
            'nothing in the checkpoint fits this network'
            f'{f" behind the prefix {prefix!r}" if prefix else ""}: it has names like '
            f'{_listed(some, 4)}, expected are names like {_listed(wanted, 4)}. Is it the '
            'checkpoint of another architecture?')
    container, best_prefix = place
    tensors = containers[container]
    own = {name[len(best_prefix):]: name for name in tensors if name.startswith(best_prefix)}
    label, rename = max(_RENAMES.items(),
                        key=lambda item: sum(item[1](name) in expected for name in own))
    layout = [container] + [f'prefix "{best_prefix}"'] * bool(best_prefix) + [label] * bool(label)
    return FoundBackbone(
        tensors={rename(name): tensors[full] for name, full in own.items()},
        source={rename(name): full for name, full in own.items()},
        layout=', '.join(layout),
        outside=[name for name in tensors if not name.startswith(best_prefix)])


def bare_backbone(checkpoint: dict[str, Any], prefix: str | None = None) -> FoundBackbone:
    """The tensors of the backbone in ``checkpoint`` where no network says which names to expect:
    what stands behind ``backbone.``, or else everything but the usual classifiers.

    Raises:
        CheckpointError: no tensors, none behind ``prefix``, or several backbones.
    """
    containers = ((name, tensors_by_name(checkpoint.get(name))) for name in _CONTAINERS)
    container, tensors = next(((name, own) for name, own in containers if own),
                              ('the top level', tensors_by_name(checkpoint)))
    if prefix is None:
        places = sorted({found[0] for found in map(_BACKBONE.match, tensors) if found})
        if len(places) > 1:
            raise _more_than_once('several backbones', places)
        prefix = places[0] if places else 'module.' if any(
            name.startswith('module.') for name in tensors) else ''
    elif prefix and not prefix.endswith('.'):
        prefix += '.'
    own = {name[len(prefix):]: name for name in tensors if name.startswith(prefix)}
    kept = {name: full for name, full in own.items() if not _HEAD.match(name)}
    if not kept:
        raise CheckpointError(f'no backbone in {container}'
                              f'{f" behind the prefix {prefix!r}" if prefix else ""}: its names '
                              f'are {_listed(tensors or checkpoint, 8)}')
    return FoundBackbone(
        tensors={name: tensors[full] for name, full in kept.items()},
        source=kept,
        layout=', '.join([container] + [f'prefix "{prefix}"'] * bool(prefix)),
        outside=[name for name in tensors if name not in kept.values()])


def why_superfluous(name: str, expected: Collection[str]) -> str | None:
    """Why a backbone's checkpoint may well hold ``name`` though the network has no such tensor:
    a classifier, or a stage that the network leaves out. ``None`` where that isn't so."""
    if _HEAD.match(name):
        return 'classifier'
    if name.endswith('num_batches_tracked'):
        return 'counter of a normalisation layer'
    stage = _STAGE.match(name)
    if stage:
        stages = {int(other[1]) for other in map(_STAGE.match, expected) if other}
        if stages and int(stage[1]) > max(stages):
            return f'the network ends after layer{max(stages)}'
    return None


def _listed(names: Collection[object], most: int) -> str:
    shown = [str(name)[:_LONGEST_SHOWN] for name in list(names)[:most]]
    # Names that aren't tensors' may hold anything, a terminal's control codes too.
    return ', '.join(name if name.isprintable() else repr(name) for name in shown) + (
        ', ...' if len(names) > most else '')
