"""Moves a convolution's mask between networks that place masks differently (pure functions).

A convolution computes with the weight ``W' = W * M`` (arXiv 2302.04544, Eq. 2). Wherever the
target's mask can be made equal to the source's, both move; elsewhere the source's mask is
multiplied into the weight and the target's initial mask divided out of it, so that ``W'`` stays
what it was.

The one case that can't be exact is a dynamic mask which depends on the image going where there is
none: :func:`move_mask` then takes the mask of the predictor's bias ``B_1`` (Eq. 7) and says so.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..checkpoints.checkpoint_file import CheckpointError
from ..layers import SIGMA_PATTERNS, GMConv2d, gaussian_mask
from ..layers.plain_weights import divided_by_initial_mask

# Names of a mask's tensors below its convolution's name.
STATIC = ('sigma', )
DYNAMIC = ('sigma_predictor.w0', 'sigma_predictor.w1', 'sigma_predictor.b1')
_W0, _W1, _B1 = DYNAMIC


@dataclass(frozen=True)
class Move:
    """A convolution as the target takes it."""
    weight: Tensor
    mask: dict[str, Tensor]  # STATIC or DYNAMIC names -> values; without w0 the target's own stays
    folded: bool = False  # the source's mask was multiplied into the weight
    note: str = ''
    approximated: bool = False


@dataclass(frozen=True)
class SourceMask:
    """The mask of a convolution in a checkpoint."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    pattern: str | None = None  # what a dynamic one predicts, where that is known

    @property
    def kind(self) -> str:
        return 'plain' if not self.tensors else 'static' if 'sigma' in self.tensors else 'dynamic'

    def outputs(self) -> int:
        """How many numbers a dynamic mask's predictor gives."""
        return self.tensors[_B1].numel()

    def sigmas(self) -> Tensor:
        """``(s1, s2)`` in fp64; of a dynamic mask those of a blank image, its predictor's bias."""
        if self.kind == 'static':
            return self.tensors['sigma'].double().reshape(1).repeat(2)
        first, last = self.tensors[_B1].double()[0], self.tensors[_B1].double()[-1]
        is_ratio = self.outputs() == 2 and self.pattern != 'sigma_pair'
        return torch.stack([first, first * last if is_ratio else last])


def masks_in(tensors: dict[str, Tensor], pattern: str | None = None) -> dict[str, SourceMask]:
    """The masks in a state dict: name of the convolution -> its mask.

    Raises:
        CheckpointError: a predictor's tensors are not complete, or a mask's have another shape
            than any mask's.
    """
    masks: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        for own in (*STATIC, *DYNAMIC):
            conv = name[:-len(own) - 1]
            weight = tensors.get(f'{conv}.weight')
            if name.endswith(f'.{own}') and weight is not None and weight.dim() == 4:
                masks.setdefault(conv, {})[own] = tensor
    for conv, mask in masks.items():
        if set(mask) not in (set(STATIC), set(DYNAMIC)):
            raise CheckpointError(f'the mask of {conv} is not complete: only {", ".join(mask)} are '
                                  'there')
        shapes = {own: tuple(tensor.shape) for own, tensor in mask.items()}
        if not _shapes_fit(shapes):
            raise CheckpointError(f'the mask of {conv} has tensors of the wrong shape: '
                                  f'{", ".join(f"{own} {shape}" for own, shape in shapes.items())}')
    return {conv: SourceMask(mask, pattern) for conv, mask in masks.items()}


def _shapes_fit(shapes: dict[str, tuple[int, ...]]) -> bool:
    if 'sigma' in shapes:
        return math.prod(shapes['sigma']) == 1
    w0, w1, b1 = (shapes[own] for own in DYNAMIC)
    return (len(w0) == len(w1) == 2 and len(b1) == 1 and b1[0] == w1[0]
            and b1[0] in SIGMA_PATTERNS.values() and 0 < w0[0] == w1[1] and w0[1] > 0)


def initial_mask(layer: GMConv2d) -> dict[str, Tensor]:
    """The tensors, in the layer's dtype, that give ``layer`` the mask of its ``init_sigma``."""
    predictor = layer.sigma_predictor
    if predictor is not None:
        return {_W1: torch.zeros_like(predictor.w1, requires_grad=False, device='cpu'),
                _B1: predictor.b1.new_tensor(predictor.initial_b1(), device='cpu')}
    return {'sigma': layer.weight.new_full((1, ), layer.init_sigma, device='cpu')}


def is_initial(layer: GMConv2d, mask: dict[str, Tensor]) -> bool:
    """Whether ``mask``, as a :class:`Move` holds it, is for every input that of ``init_sigma``."""
    initial = initial_mask(layer)
    return all(torch.equal(mask[name].to(value), value) for name, value in initial.items())


def _pattern(layer: GMConv2d) -> str:
    return layer.sigma_predictor.sigma_pattern if layer.sigma_predictor is not None else ''


def _bias_for(sigmas: Tensor, pattern: str) -> Tensor:
    """A predictor's bias, fp64, that gives ``sigmas``, ``(2,)``. For ``'sigma'`` they are equal."""
    s1, s2 = sigmas
    if pattern == 'sigma':
        return sigmas[:1]
    ratio = torch.ones_like(s1) if s1 == s2 else s2 / s1
    return torch.stack([s1, ratio if pattern == 'sigma_ratio' else s2])


def _divided(weight: Tensor, layer: GMConv2d, name: str) -> Tensor:
    """``weight`` divided by the layer's initial mask."""
    try:
        return divided_by_initial_mask(weight, layer.init_sigma, layer.weight.dtype)
    except ValueError as error:
        raise CheckpointError(f'{name}: {error}') from error


def _times(weight: Tensor, mask: Tensor) -> Tensor:
    product: Tensor = weight.double() * mask
    return product.to(torch.promote_types(weight.dtype, torch.float32))


def move_mask(weight: Tensor, source: SourceMask, layer: GMConv2d | None, name: str,
              preserve: bool = True) -> Move:
    """A convolution's weight and mask for a target which masks it differently, or not at all.

    Products and quotients are computed in fp64 and come back in the weight's dtype, at least fp32.

    Args:
        weight (Tensor): ``(C_out, C_in / groups, K_h, K_w)``, the source's.
        source (SourceMask): the source's mask.
        layer (GMConv2d, optional): the target; ``None`` for a plain or a deformable convolution.
            Only its options are read, nothing is written.
        name (str): of the convolution, for errors.
        preserve (bool): for a plain source and a masked target: divide the weight by the initial
            mask, so that the target computes what the source did. ``False`` copies it as it is.

    Returns:
        Move: ``layer(x)`` with its values computes what the source did, to the dtype's precision,
        unless ``preserve=False`` or ``approximated``.

    Raises:
        CheckpointError: the initial mask is too small to divide by.
    """
    kernel = tuple(weight.shape[-2:])
    if layer is not None and not layer.mask_parameters():
        layer = None
    if source.kind == 'plain':
        if layer is None:
            return Move(weight, {})
        if not preserve:
            return Move(weight, initial_mask(layer), note='copied as it is under the initial mask')
        return Move(_divided(weight, layer, name), initial_mask(layer),
                    note='divided by the initial mask')
    if source.kind == 'static':
        sigmas = source.sigmas()
        if layer is None:
            return Move(_times(weight, gaussian_mask(kernel, sigmas)), {}, folded=True,
                        note='times its static mask')
        if not layer.dynamic:
            return Move(weight, {'sigma': source.tensors['sigma'].reshape(1)})
        return Move(weight, {**initial_mask(layer), _B1: _bias_for(sigmas, _pattern(layer))},
                    note='static to dynamic: the predictor starts at the static sigma')
    if layer is not None and layer.dynamic:
        same = _between_predictors(source, _pattern(layer))
        if same is not None:
            return Move(weight, same)
    return _from_constant_mask(weight, source, layer, name, kernel)


def _between_predictors(source: SourceMask, pattern: str) -> dict[str, Tensor] | None:
    """A predictor's tensors for another pattern, where they predict the same for every input."""
    tensors = source.tensors
    known = source.pattern or ('sigma' if source.outputs() == 1 else
                               pattern if pattern != 'sigma' else None)
    if known == pattern:
        return dict(tensors)
    if known != 'sigma':
        return None
    rows, bias = tensors[_W1], tensors[_B1]
    if pattern == 'sigma_pair':
        return {**tensors, _W1: rows.repeat(2, 1), _B1: bias.repeat(2)}
    return {**tensors, _W1: torch.cat([rows, torch.zeros_like(rows)]),
            _B1: torch.cat([bias, torch.ones_like(bias)])}


def _from_constant_mask(weight: Tensor, source: SourceMask, layer: GMConv2d | None, name: str,
                        kernel: tuple[int, ...]) -> Move:
    """A dynamic source whose predictor can't go along: its mask is taken as that of the bias."""
    sigmas = source.sigmas()
    approximated = bool(source.tensors[_W1].any())
    shown = ' and '.join(f'{sigma:.4g}' for sigma in sigmas.tolist())
    how = ('approximated: its dynamic mask depends on the image, taken at the bias '
           if approximated else 'its dynamic mask is constant ') + f'(sigmas {shown})'
    if layer is None:
        return Move(_times(weight, gaussian_mask(kernel, sigmas)), {}, folded=True,
                    note=f'{how}, times the weight', approximated=approximated)
    circular = bool(sigmas[0].abs() == sigmas[1].abs())
    predictor = layer.sigma_predictor
    if predictor is not None and (circular or SIGMA_PATTERNS[_pattern(layer)] == 2):
        mask = {**initial_mask(layer), _B1: _bias_for(sigmas, _pattern(layer))}
        if source.tensors[_W0].shape == predictor.w0.shape:
            mask[_W0] = source.tensors[_W0]
        return Move(weight, mask, note=how, approximated=approximated)
    if circular and not layer.dynamic:
        return Move(weight, {'sigma': sigmas[:1]}, note=how, approximated=approximated)
    # An ellipse, and the target's mask is a circle.
    moved = _divided(weight.double() * gaussian_mask(kernel, sigmas), layer, name)
    moved = moved.to(torch.promote_types(weight.dtype, torch.float32))
    return Move(moved, initial_mask(layer), folded=True, approximated=approximated,
                note=f'{how}, times the weight, which was divided by the initial mask')
