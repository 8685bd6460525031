"""Re-parameterized Refocusing Convolution (RefConv, arXiv 2310.10563): a trained kernel is frozen
as a basis, and what trains instead is a small convolution over the kernel itself. Afterwards the
resulting kernel is folded and a plain convolution is left.

Differences from the authors' code (github.com/Aiolus-X/RefConv): bias, dilation and every other
argument of ``nn.Conv2d`` work; kernels need not be square; ``init='identity'`` is ours; a basis that
was never loaded is an error, where theirs is a network of zeros.
"""
from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

REF_INITS = ('paper', 'identity')


def refocus(basis: Tensor, map_weight: Tensor) -> Tensor:
    r"""The refocused kernel :math:`W = W_b + T(W_b)`.

    :math:`T` is a convolution without bias over the kernel as an image: its
    ``C_out * C_in / groups`` slices are the channels, output channel by output channel, and every
    ``groups`` consecutive ones form a group. So a depthwise kernel's slices are mixed densely, and
    each slice of a dense kernel is filtered by itself. Zeros around, stride 1: the size stays.

    Args:
        basis (Tensor): :math:`W_b`, ``(C_out, C_in / groups, K_h, K_w)``.
        map_weight (Tensor): of :math:`T`, ``(C_out * C_in / groups, groups, k_h, k_w)``, ``k_h``
            and ``k_w`` odd.

    Returns:
        Tensor: as ``basis``.

    Raises:
        ValueError: the shapes don't belong together, or ``k_h`` or ``k_w`` is even.
    """
    slices = basis.shape[0] * basis.shape[1]
    count, groups, *size = map_weight.shape
    if count != slices or slices % groups or any(side % 2 == 0 for side in size):
        raise ValueError(
            f'a basis {tuple(basis.shape)} needs a map (C_out * C_in / groups, groups, k_h, k_w) = '
            f'({slices}, groups, odd, odd) with groups a divisor of {slices}, got '
            f'{tuple(map_weight.shape)}')
    image = basis.reshape(1, slices, *basis.shape[2:])
    change = F.conv2d(image, map_weight, padding=[side // 2 for side in size],
                      groups=slices // groups)
    return basis + change.reshape(basis.shape)


class ConvMap(nn.Module):
    """The trained weight of a refocusing transformation, ``(C_out * C_in / groups, groups, k, k)``.

    No ``nn.Conv2d``: the ``Kaiming`` of most backbones' ``init_cfg`` would draw it anew.
    """

    def __init__(self, weight: Tensor, init: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.init = init
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As ``nn.Conv2d`` for ``init='paper'``, zeros for ``'identity'``."""
        if self.init == 'identity':
            nn.init.zeros_(self.weight)
        else:
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def extra_repr(self) -> str:
        return f'{tuple(self.weight.shape)}, init={self.init!r}'


class RefConv2d(nn.Conv2d):
    r"""``nn.Conv2d`` with the kernel :math:`W = W_b + T(W_b)`, see :func:`refocus`.

    ``weight`` is the basis :math:`W_b`: under the name that ``nn.Conv2d`` has for its weight, so
    that any plain checkpoint fits, but a buffer, without gradient and weight decay. What trains is
    ``convmap.weight``, ``C_in * C_out * k_h * k_w`` numbers, and ``bias``. Weight decay on the map
    pulls the kernel towards the basis.

    In training mode the basis must have been loaded, by whatever ends in ``load_state_dict``
    (checkpoints, resume), by :func:`~gmconv_mmdet.load_pretrained`, or by :meth:`load_basis`;
    ``basis_loaded`` says whether it was. Copies and pickles keep that. Without gradients or in
    evaluation mode an unloaded layer computes with its random basis, as an untrained ``nn.Conv2d``.

    A 1x1 kernel has nothing to refocus: such a layer is a plain, trained convolution, which lets
    ``conv_cfg=dict(type='RefConv')`` reach networks that have some.

    It derives from ``nn.Conv2d`` directly because MMEngine's initialisers look no further than a
    layer's class and its direct bases.

    Args:
        *args, **kwargs: all of ``nn.Conv2d``'s arguments.
        map_kernel_size (int | tuple[int, int]): of :math:`T`, odd, not larger than the kernel.
        init ('paper' | 'identity'): of the map. ``'paper'``: as ``nn.Conv2d`` draws it, so that the
            layer starts away from the trained kernel, as in the authors' code. ``'identity'``, our
            variant: zeros, so that it starts as the trained convolution.

    Raises:
        ValueError: a value of ours outside its range. ``nn.Conv2d`` checks its own arguments.
        RuntimeError: a training step on a basis that was never loaded.
    """

    def __init__(self, *args: Any, map_kernel_size: int | tuple[int, int] = 3,
                 init: str = 'paper', **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        size = (tuple(map_kernel_size) if isinstance(map_kernel_size, (tuple, list))
                else (map_kernel_size, ) * 2)
        if len(size) != 2 or any(type(side) is not int or side < 1 or side % 2 == 0
                                 for side in size):
            raise ValueError('map_kernel_size must be an odd number, or two for height and width, '
                             f'got {map_kernel_size!r}')
        if init not in REF_INITS:
            raise ValueError(f'init must be one of {REF_INITS}, got {init!r}')
        self.convmap = None
        self.basis_loaded = False
        if self.kernel_size == (1, 1):
            return
        if any(k > kernel for k, kernel in zip(size, self.kernel_size)):
            raise ValueError(
                f'map_kernel_size must not be larger than the kernel, got {size[0]}x{size[1]} for '
                f'a kernel of {self.kernel_size[0]}x{self.kernel_size[1]}: give two odd numbers, '
                f'({", ".join(str(k - 1 + k % 2) for k in self.kernel_size)}) at most')
        basis = self.weight.detach()
        self.convmap = ConvMap(basis.new_empty(
            basis.shape[0] * basis.shape[1], self.groups, *size), init)
        del self.weight
        self.register_buffer('weight', basis)

    @torch.no_grad()
    def load_basis(self, weight: Tensor) -> None:
        """Take a trained kernel as the basis.

        Args:
            weight (Tensor): ``(C_out, C_in / groups, K_h, K_w)``; cast to the layer's dtype and
                device.

        Raises:
            ValueError: another shape.
        """
        if weight.shape != self.weight.shape:
            raise ValueError(f'the basis must be {tuple(self.weight.shape)}, got '
                             f'{tuple(weight.shape)}')
        self.weight.copy_(weight)
        self.settle_basis()

    def settle_basis(self) -> None:
        """Say that the basis holds trained numbers, as loading a state dict does. All zeros are
        none: they could be no kernel's, and no map makes anything of them."""
        self.basis_loaded = bool(self.weight.any())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any,
                              **kwargs: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        source = state_dict.get(f'{prefix}weight')
        if self.convmap is not None and source is not None and source.shape == self.weight.shape:
            self.settle_basis()

    def register_parameter(self, name: str, parameter: nn.Parameter | None) -> None:
        """A parameter put in the basis's place, as mmcv's ``fuse_conv_bn`` does with the batch
        norm's scale multiplied in, becomes the new basis. That is exact where each slice is
        refocused by itself.

        Raises:
            RuntimeError: slices are mixed (``groups`` > 1), so that scaling the basis does not
                scale the kernel.
        """
        if name == 'weight' and parameter is not None and self._modules.get('convmap'):
            if self.groups > 1:
                raise RuntimeError(
                    'the basis of a grouped RefConv can\'t be replaced by a scaled one: its map '
                    'mixes output channels. Fold the model before its batch norms are fused: '
                    'gmconv_mmdet.fold_gmconv(model)')
            self.register_buffer('weight', parameter.detach())
        else:
            super().register_parameter(name, parameter)

    @property
    def kernel_is_frozen(self) -> bool:
        """Whether what trains of the kernel is frozen: the map, of a 1x1 kernel the weight."""
        trained = self.weight if self.convmap is None else self.convmap.weight
        return not trained.requires_grad

    def plain_weight(self) -> Tensor:
        """Weight of the ``nn.Conv2d`` that this layer equals, the refocused kernel, ``(C_out,
        C_in / groups, K_h, K_w)``, in the basis's dtype."""
        return self._refocused(self.weight)

    def _refocused(self, basis: Tensor) -> Tensor:
        if self.convmap is None:
            return basis
        # In full precision: the sum is the kernel itself, which autocast rounds once, later.
        device = 'cpu' if basis.is_meta else basis.device.type  # meta has no autocast
        with torch.autocast(device, enabled=False):
            return refocus(basis, self.convmap.weight)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.convmap is not None:
            if self.training and torch.is_grad_enabled() and not self.basis_loaded:
                raise RuntimeError(_never_loaded(self))
            if weight is not self.weight and self.groups > 1:
                raise RuntimeError(
                    'mmcv\'s efficient_conv_bn_eval multiplies the batch norm into the basis, '
                    'which for a grouped RefConv is not the same as into its kernel: take it out of the '
                    'config')
            weight = self._refocused(weight)
        result: Tensor = super()._conv_forward(x, weight, bias)
        return result

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        """Become a plain convolution with the weight of :meth:`plain_weight`, in place: basis and
        map go. Exact, and safe to repeat."""
        if self.convmap is not None:
            weight, trains = self.plain_weight(), not self.kernel_is_frozen
            self.convmap = None
            self.weight = nn.Parameter(weight, trains)


def _never_loaded(layer: nn.Conv2d) -> str:
    what = ('all zeros' if not layer.weight.any() else 'never loaded: random numbers')
    return (f'the basis of a RefConv ({layer.in_channels} -> {layer.out_channels} channels, kernel '
            f'{layer.kernel_size[0]}x{layer.kernel_size[1]}) is {what}. RefConv trains on top of a '
            'trained network: load its checkpoint first (init_cfg=dict(type=\'GMPretrained\', '
            'checkpoint=...), load_from, or load_state_dict), or call layer.load_basis(weight)')
