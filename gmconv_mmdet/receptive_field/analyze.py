"""Receptive-field analysis: which layers can't contribute at a given input size.

After Richter & Pal, "Receptive Field Refinement for Convolutional Neural Networks Reliably Improves
Predictive Performance" (arXiv 2211.14487): every path from the image starts with a field of ``r = 1``
pixel at a jump ``j = 1``; ``k`` taps, dilated by ``d``, with stride ``s`` give ``r + d (k - 1) j`` and
``j s``, along each axis on its own. What the rules leave open (global paths, upsampling, deformable
convolutions, masks) is decided as docs/receptive_field_analysis.md says.
"""
from __future__ import annotations

from dataclasses import asdict, dataclass
from math import inf
from typing import Any, Tuple, Union

import torch.nn as nn

from ..layers.masked_kernel import masked_kernels
from .tracing.feature_layout import TensorField
from .tracing.field_trace import ReceptiveFieldError, Step, trace

__all__ = ['FieldSize', 'LayerField', 'ReceptiveFieldError', 'Report', 'analyze']

Pair = Tuple[Union[int, float], Union[int, float]]

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
        center: centre of the first position's field; 0 is the centre of the first pixel, and odd
            kernels padded by half stay there. None if global.
        has_global_path: some path sees the whole axis.
        size: positions of the map, None where it has no image axis any more.
        exact: False behind an irregular resize, where the nearest regular one was counted.
    """
    r_min: Pair
    r_max: Pair
    r_effective: Pair
    jump: Pair
    center: tuple[float | None, float | None]
    has_global_path: tuple[bool, bool]
    size: tuple[int | None, int | None]
    exact: bool


@dataclass(frozen=True)
class LayerField(FieldSize):
    """One layer: the field behind it, and what follows at the input size that was analysed.

    Attributes:
        kind: ``'convolution'``, ``'pooling'``, ``'linear'``, ``'attention'``, ``'resize'`` ...
        kernel, stride, dilation: of the layer; None where it has none.
        r_before: smallest field of any path into the layer.
        saturated: every path into it already sees the whole image (``r_before`` >= input size).
        unproductive: it has weights, is saturated on both axes and isn't global itself (a dense
            layer over the whole map). This is the published criterion; it counts 1x1 convolutions.
        critical: its own ``r_min`` exceeds the input size on both axes.
        macs: multiply-adds at the input size.
    """
    kind: str
    kernel: tuple[int, int] | None
    stride: tuple[int, int] | None
    dilation: tuple[int, int] | None
    r_before: Pair
    saturated: tuple[bool, bool]
    unproductive: bool
    critical: bool
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
    input_size: tuple[int, int]
    layers: dict[str, LayerField]
    outputs: list[FieldSize]
    modules: dict[str, FieldSize]
    macs: int
    params: int

    @property
    def min_size(self) -> Pair:
        """Smallest useful input ``(h, w)``: the largest ``r_min`` of any layer, 0 if there is none.
        One pixel less wastes the last layer's field."""
        return self._largest('r_min', [])

    @property
    def max_size(self) -> Pair:
        """Largest useful input ``(h, w)``: the largest finite ``r_max``. No unit sees more than
        that at once (but through a global path)."""
        return self._largest('r_max', self.outputs)

    def _largest(self, name: str, further: list[FieldSize]) -> Pair:
        fields = [f for f in self.layers.values() if f.kind in FIXED] + list(further)
        height, width = zip((0, 0), *(getattr(f, name) for f in fields))
        return max(h for h in height if h < inf), max(w for w in width if w < inf)

    @property
    def unproductive(self) -> list[str]:
        """Names of the unproductive layers."""
        return [name for name, layer in self.layers.items() if layer.unproductive]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; infinite fields are None there, since JSON has no infinity."""
        return _finite(dict(
            input_size=self.input_size, min_size=self.min_size, max_size=self.max_size,
            params=self.params, macs=self.macs, unproductive=self.unproductive,
            layers={name: dict(asdict(layer), status=layer.status)
                    for name, layer in self.layers.items()},
            outputs=[asdict(output) for output in self.outputs]))


def analyze(module: nn.Module, input_size: tuple[int, int], channels: int = 3) -> Report:
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
    try:
        height, width = map(int, input_size)
        valid = height > 0 and width > 0 and (height, width) == tuple(input_size)
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(f'input_size is (H, W), two positive integers; got {input_size!r}')
    result = trace(module, (height, width), channels, masked_kernels(module))
    return Report(
        input_size=(height, width), layers={name: _layer(step, (height, width)) for name, step in
                                            zip(_names(result.steps), result.steps)},
        outputs=[FieldSize(**_size_of(field)) for field in result.outputs],
        modules={name: FieldSize(**_size_of(field)) for name, field in result.modules.items()},
        macs=result.macs, params=sum(p.numel() for p in module.parameters()))


def _size_of(field: TensorField) -> dict[str, Any]:
    rows = []
    for path in field.axes:
        if not path.is_finite:
            rows.append((inf, inf, inf, inf, None, path.is_global))
            continue
        jump, first = path.hull.jump, path.hull.interval(0)
        rows.append((path.least.size, path.hull.size, path.hull.size - path.shrink,
                     int(jump) if jump.denominator == 1 else float(jump),
                     None if first is None else sum(first) / 2, path.is_global))
    names = 'r_min', 'r_max', 'r_effective', 'jump', 'center', 'has_global_path'
    return dict(zip(names, zip(*rows)), size=field.sizes, exact=all(p.exact for p in field.axes))


def _layer(step: Step, input_size: tuple[int, int]) -> LayerField:
    after, before = _size_of(step.result), _size_of(step.source)
    saturated = tuple(size <= r < inf for size, r in zip(input_size, before['r_min']))
    return LayerField(
        **after, kind=step.kind, kernel=step.kernel, stride=step.stride, dilation=step.dilation,
        r_before=before['r_min'], saturated=saturated,
        unproductive=step.kind in WEIGHTED and all(saturated) and after['r_min'] != (inf, inf),
        critical=all(size < r < inf for size, r in zip(input_size, after['r_min'])), macs=step.macs)


def _names(steps: list[Step]) -> list[str]:
    """One name a step: the module's own for its weighted operator, else for its first."""
    mains: dict[str, str] = {}
    for step in steps:
        if step.owner not in mains or (step.kind in WEIGHTED and mains[step.owner] not in WEIGHTED):
            mains[step.owner] = step.kind
    counts: dict[str, int] = {}
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
