r"""Receptive-field analysis: which layers can't contribute at a given input size.

After Richter & Pal, "Receptive Field Refinement for Convolutional Neural Networks Reliably Improves
Predictive Performance" (arXiv 2211.14487). A layer whose every input path already sees the whole
image
has no new context to add: it is *unproductive*, and the network is better off without it, or with a
stem that lets the field grow more slowly. The analysis needs the architecture alone, no training.

Rules. Every path from the image starts with a field of :math:`r = 1` pixel at a jump :math:`j = 1`;
a kernel of :math:`k` taps, dilated by :math:`d`, with stride :math:`s` gives
:math:`r \leftarrow r + d (k - 1) j` and :math:`j \leftarrow j s`, along each axis on its own. Where
paths join (addition, concatenation, a gate) ``r_min`` is the smallest field of any path and
``r_max`` the extent of the union of all of them: exactly the input that a gradient can reach. Paths
of unequal centres make the union larger than each path. Padding never clips a field.

Decisions that the rules leave open:

* A global path (global pooling, squeeze-excitation, attention, statistics of a normalisation over
  this image) has an infinite field. It isn't counted where a finite path exists
  (``has_global_path`` tells); behind a layer with none, ``r_min`` and ``r_max`` are ``inf``.
* Upsampled maps, and attention in windows, give different positions fields of different sizes; the
  size is that of the largest. A resize to an odd size counts as the integer factor that was meant.
* A deformable convolution counts with its nominal grid (``kind`` says so): its offsets have no
  bound.
* A Gaussian mask (GMConv) never changes the theoretical field. ``r_effective`` stands beside it:
  the same rules with the extent that the mask leaves, see :mod:`.masked_kernel`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from math import inf
from typing import Any, Dict, List, Optional, Tuple, Union

import torch.nn as nn

from ..layers.masked_kernel import masked_kernels
from .tracing.feature_layout import TensorField
from .tracing.field_trace import ReceptiveFieldError, Step, trace

__all__ = ['FieldSize', 'LayerField', 'ReceptiveFieldError', 'Report', 'analyze']

Number = Union[int, float]
Pair = Tuple[Number, Number]

WEIGHTED = ('convolution', 'deformable convolution', 'transposed convolution', 'linear')
# Their receptive field doesn't depend on the input's size, so they bound the useful sizes.
FIXED = WEIGHTED + ('pooling', 'space to depth', 'unfold')


@dataclass(frozen=True)
class FieldSize:
    """The receptive field of a feature map; everything is ``(h, w)``, in input pixels.

    Attributes:
        r_min, r_max: the smallest field of any path, the union of all; ``inf`` if only global.
        r_effective: ``r_max`` with masked kernels counted at the extent that their masks leave.
        jump: pixels between neighbouring positions; ``inf`` if only global.
        center: centre offset, that of the first position's field; 0 is the centre of the first
            pixel, and odd kernels padded by half stay there. None if global.
        has_global_path: some path sees the whole axis.
        size: positions of the map, None where it has no image axis any more.
        exact: False behind an irregular resize, where the nearest regular one was counted.
    """
    r_min: Pair
    r_max: Pair
    r_effective: Pair
    jump: Pair
    center: Tuple[Optional[float], Optional[float]]
    has_global_path: Tuple[bool, bool]
    size: Tuple[Optional[int], Optional[int]]
    exact: bool


@dataclass(frozen=True)
class LayerField(FieldSize):
    """One layer: the field behind it, and what follows at the input size that was analysed.

    Attributes:
        kind: ``'convolution'``, ``'pooling'``, ``'linear'``, ``'attention'``, ``'resize'`` ...
        kernel, stride, dilation: of the layer; None where it has none.
        r_before: smallest field of any path into the layer.
        enlarges: whether it adds context of its own to the field: a 1x1 convolution doesn't.
        saturated: every path into it already sees the whole image (``r_before`` >= input size).
        unproductive: it has weights, is saturated on both axes and isn't global itself (a dense
            layer over the whole map). This is the published criterion; it counts 1x1 convolutions.
            ``unproductive and any(enlarges)`` is the border layer in the narrower sense, a layer
            that can't put to use a kernel which was meant to add context.
        critical: its own ``r_min`` exceeds the input size on both axes.
        covers_map: the toolbox's second criterion: the map before it is no larger than the
            (dilated) kernel, so that some taps see nothing but padding; kernels of one tap don't
            count.
        macs: multiply-adds at the input size.
    """
    kind: str
    kernel: Optional[Tuple[int, int]]
    stride: Optional[Tuple[int, int]]
    dilation: Optional[Tuple[int, int]]
    r_before: Pair
    enlarges: Tuple[bool, bool]
    saturated: Tuple[bool, bool]
    unproductive: bool
    critical: bool
    covers_map: Tuple[bool, bool]
    macs: int

    @property
    def is_global(self) -> bool:
        return self.r_min == (inf, inf)

    @property
    def status(self) -> str:
        """``'unproductive'``, ``'critical'``, ``'global'`` or ``'productive'``."""
        if self.unproductive:
            return 'unproductive'
        if self.is_global:
            return 'global'
        return 'critical' if self.critical else 'productive'


@dataclass(frozen=True)
class Report:
    """The analysis of a network at one input size.

    Attributes:
        input_size: ``(H, W)`` in pixels.
        layers: by name, in the order in which they run. The name is that of the module; a module
            that runs repeatedly has ``#2`` ... after it, a second operator in it ``:kind``.
        outputs: the fields of the network's outputs, in order.
        modules: the field behind each module, by name; ``name[i]`` where it returns several maps.
        macs: multiply-adds of one image.
        params: number of parameters.
    """
    input_size: Tuple[int, int]
    layers: Dict[str, LayerField]
    outputs: List[FieldSize]
    modules: Dict[str, FieldSize]
    macs: int
    params: int

    @property
    def min_size(self) -> Pair:
        """Smallest useful input ``(h, w)``: the largest ``r_min`` of any layer. Every layer still
        has context to add; one pixel less wastes the last one's field. 0 if there is no such
        layer."""
        return self._largest('r_min', [])

    @property
    def max_size(self) -> Pair:
        """Largest useful input ``(h, w)``: the largest finite ``r_max``. No unit sees more than
        that at once (but through a global path)."""
        return self._largest('r_max', self.outputs)

    def _largest(self, name: str, further: List[FieldSize]) -> Pair:
        fields = [f for f in self.layers.values() if f.kind in FIXED] + list(further)
        height, width = zip((0, 0), *(getattr(f, name) for f in fields))
        return max(h for h in height if h < inf), max(w for w in width if w < inf)

    @property
    def unproductive(self) -> List[str]:
        """Names of the unproductive layers."""
        return [name for name, layer in self.layers.items() if layer.unproductive]

    def as_dict(self) -> Dict[str, Any]:
        """Plain data for JSON; infinite fields are None there, since JSON has no infinity."""
        return _finite(dict(
            input_size=self.input_size, min_size=self.min_size, max_size=self.max_size,
            params=self.params, macs=self.macs, unproductive=self.unproductive,
            layers={name: dict(asdict(layer), status=layer.status)
                    for name, layer in self.layers.items()},
            outputs=[asdict(output) for output in self.outputs]))


def analyze(module: nn.Module, input_size: Tuple[int, int], channels: int = 3) -> Report:
    """Analyse the receptive fields of a network at one input size.

    The network runs once without data; it isn't changed, and no weights are needed.

    Args:
        module: any network that takes one image tensor ``(1, channels, H, W)``.
        input_size: ``(H, W)`` in pixels.
        channels: of the image.

    Raises:
        ValueError: for an ``input_size`` that isn't two positive integers.
        ReceptiveFieldError: if the network rearranges image positions so that it has no regular
            receptive field, uses an operator without a rule, or can't run at this size.
    """
    height, width = _checked_size(input_size)
    result = trace(module, (height, width), channels, masked_kernels(module))
    names = _names(result.steps)
    layers = {name: _layer(step, (height, width)) for name, step in zip(names, result.steps)}
    return Report(
        input_size=(height, width), layers=layers,
        outputs=[FieldSize(**_size_of(field)) for field in result.outputs],
        modules={name: FieldSize(**_size_of(field)) for name, field in result.modules.items()},
        macs=result.macs, params=sum(p.numel() for p in module.parameters()))


def _checked_size(input_size: Any) -> Tuple[int, int]:
    try:
        height, width = input_size
        valid = int(height) == height > 0 and int(width) == width > 0
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(f'input_size is (H, W), two positive integers; got {input_size!r}')
    return int(height), int(width)


def _size_of(field: TensorField) -> Dict[str, Any]:
    values: Dict[str, List] = {name: [] for name in (
        'r_min', 'r_max', 'r_effective', 'jump', 'center', 'has_global_path')}
    for path in field.axes:
        finite = path.is_finite
        values['r_min'].append(path.least.size if finite else inf)
        values['r_max'].append(path.hull.size if finite else inf)
        values['r_effective'].append(path.hull.size - path.shrink if finite else inf)
        values['jump'].append(_plain(path.hull.jump) if finite else inf)
        first = path.hull.interval(0) if finite else None
        values['center'].append(None if first is None else sum(first) / 2)
        values['has_global_path'].append(path.is_global)
    return dict({name: tuple(pair) for name, pair in values.items()}, size=field.sizes,
                exact=all(path.exact for path in field.axes))


def _plain(number: Fraction) -> Number:
    return number.numerator if number.denominator == 1 else float(number)


def _layer(step: Step, input_size: Tuple[int, int]) -> LayerField:
    after, before = _size_of(step.result), _size_of(step.source)
    saturated = tuple(size <= r < inf for size, r in zip(input_size, before['r_min']))
    kernel, dilation = step.kernel, step.dilation or (1, 1)
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel)] if kernel else (1, 1)
    covers = tuple(n is not None and 1 < span and n <= span
                   for n, span in zip(before['size'], spans))
    enlarges = tuple(step.kind in ('attention', 'global pooling') or span > 1 for span in spans)
    return LayerField(
        **after, kind=step.kind, kernel=kernel, stride=step.stride, dilation=step.dilation,
        r_before=before['r_min'], enlarges=enlarges, saturated=saturated,
        unproductive=step.kind in WEIGHTED and all(saturated) and after['r_min'] != (inf, inf),
        critical=all(size < r < inf for size, r in zip(input_size, after['r_min'])),
        covers_map=covers, macs=step.macs)


def _names(steps: List[Step]) -> List[str]:
    """One name a step: the module's own for its weighted operator, else for its first."""
    mains: Dict[str, str] = {}
    for step in steps:
        if step.owner not in mains or (step.kind in WEIGHTED and mains[step.owner] not in WEIGHTED):
            mains[step.owner] = step.kind
    counts: Dict[str, int] = {}
    names = []
    for step in steps:
        name = step.owner or step.kind
        if step.owner and step.kind != mains[step.owner]:
            name = f'{name}:{step.kind}'
        counts[name] = counts.get(name, 0) + 1
        names.append(name if counts[name] == 1 else f'{name}#{counts[name]}')
    return names


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if value == inf else value
