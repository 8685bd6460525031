"""Spares a frozen static GMConv the computation of its masked weight in every training step."""
from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn as nn
from torch import Tensor


class FrozenProduct:
    """``weight * mask``, kept for as long as weight and sigma are frozen and hold the same numbers.

    The numbers themselves are compared, at about a third of the cost of computing the product anew.
    Neither a parameter's identity nor autograd's version counter would do: MMEngine's EMA hook,
    mmdet's mean teacher and most weight initialisers write through ``.data``, which changes
    neither. On an accelerator such a comparison has to wait for the device, which costs as much as
    it saves; nothing is kept there, nor without gradients (validation: fold the model instead), nor
    while a graph of the model is being recorded.

    It belongs to no state dict, and copies and pickles of a layer start without one.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Keep nothing any more."""
        self._weight: Tensor | None = None  # what the product was computed from
        self._sigma: Tensor | None = None
        self._product: Tensor | None = None

    def __reduce__(self) -> tuple:
        return type(self), ()

    def __call__(self, weight: Tensor, sigma: Tensor, mask: Callable[[], Tensor]) -> Tensor:
        """The product, computed or kept.

        Args:
            weight (Tensor): ``(C_out, C_in / groups, K_h, K_w)``.
            sigma (Tensor): what the mask depends on.
            mask (Callable[[], Tensor]): computes the mask ``(K_h, K_w)``.
        """
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return weight * mask()
        if not (torch.is_grad_enabled() and _is_frozen(weight) and _is_frozen(sigma)):
            self.forget()
            return weight * mask()
        if not (_same(self._sigma, sigma) and _same(self._weight, weight)):
            self._weight, self._sigma = weight.detach().clone(), sigma.detach().clone()
            self._product = weight * mask()
        return self._product


def _is_frozen(tensor: Tensor) -> bool:
    # Stand-ins for parameters (torch.func's, fake tensors) are of other types.
    return (type(tensor) is nn.Parameter and not tensor.requires_grad
            and tensor.device.type == 'cpu')


def _same(kept: Tensor | None, tensor: Tensor) -> bool:
    return (kept is not None and kept.dtype == tensor.dtype and kept.stride() == tensor.stride()
            and torch.equal(kept, tensor))
