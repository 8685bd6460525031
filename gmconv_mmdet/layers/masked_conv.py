"""A convolution with a masked weight that keeps no masked weight for the backward pass."""
from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class _MaskedConv(torch.autograd.Function):
    """``conv2d(x, weight * mask)``, whose backward pass multiplies weight and mask anew.

    Built of differentiable operators throughout, so that second derivatives, forward-mode ones and
    torch.func's transforms work.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, mask: Tensor, bias: Tensor | None, dtype: torch.dtype,
                geometry: tuple) -> Tensor:
        return F.conv2d(x, (weight * mask).to(dtype), bias, *geometry)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, weight, mask, bias, ctx.dtype, ctx.geometry = inputs
        ctx.bias_sizes = None if bias is None else [len(bias)]
        ctx.save_for_backward(x, weight, mask)
        ctx.save_for_forward(x, weight, mask)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mask = ctx.saved_tensors
        wants_x, wants_weight, wants_mask, wants_bias = ctx.needs_input_grad[:4]
        stride, padding, dilation, groups = ctx.geometry
        grad_x, grad_masked, grad_bias = torch.ops.aten.convolution_backward(
            gradient, x, (weight * mask).to(ctx.dtype), ctx.bias_sizes, stride, padding, dilation,
            False, [0, 0], groups, [wants_x, wants_weight or wants_mask, wants_bias])
        grad_weight = grad_mask = None
        if grad_masked is not None:
            grad_masked = grad_masked.to(weight.dtype)
            if wants_mask:
                grad_mask = (grad_masked * weight).sum((0, 1))
            if wants_weight:
                grad_weight = grad_masked * mask
        return grad_x, grad_weight, grad_mask, grad_bias, None, None

    @staticmethod
    def jvp(ctx: Any, x_t: Tensor | None, weight_t: Tensor | None, mask_t: Tensor | None,
            bias_t: Tensor | None, *_: None) -> Tensor:
        x, weight, mask = ctx.saved_tensors
        masked_t = sum(product for product in (
            None if weight_t is None else weight_t * mask,
            None if mask_t is None else weight * mask_t) if product is not None)
        out = None if bias_t is None else bias_t.view(-1, 1, 1)
        for images, kernel in ((x_t, weight * mask), (x, masked_t)):
            if isinstance(images, Tensor) and isinstance(kernel, Tensor):
                term = F.conv2d(images, kernel.to(ctx.dtype), None, *ctx.geometry)
                out = term if out is None else out + term
        return out


def can_recompute(x: Tensor, weight: Tensor, padding: str | tuple[int, ...]) -> bool:
    """Whether :func:`masked_conv2d` is for this call: gradients are wanted of a batch of ordinary
    tensors, and no graph of the model is being recorded (compilers decide for themselves what to
    compute anew)."""
    return (torch.is_grad_enabled() and not isinstance(padding, str)
            and type(x) is Tensor and type(weight) in (Tensor, nn.Parameter)
            and x.dim() == 4 and x.device.type in ('cpu', 'cuda')
            and not (torch.compiler.is_compiling() or torch.jit.is_tracing())
            and hasattr(torch, 'get_autocast_dtype'))  # torch 2.4


def masked_conv2d(x: Tensor, weight: Tensor, mask: Tensor, bias: Tensor | None,
                  stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int],
                  groups: int) -> Tensor:
    """``F.conv2d(x, weight * mask, bias, ...)``, to the last bit, with less memory in training.

    Autograd would keep ``weight * mask`` from each layer's forward pass to its backward pass: in
    ResNet-50 45 MB. Here it is multiplied anew, which costs next to nothing beside a convolution.

    Args:
        x (Tensor): ``(N, C_in, H, W)``.
        weight (Tensor): ``(C_out, C_in / groups, K_h, K_w)``.
        mask (Tensor): ``(K_h, K_w)``, in the weight's dtype.
        bias (Tensor, optional): ``(C_out,)``.
        stride, padding, dilation, groups: as of ``F.conv2d``; padding in numbers.
    """
    dtype, device = weight.dtype, x.device.type
    if torch.is_autocast_enabled(device) and dtype != torch.float64:  # which autocast leaves alone
        # Before the function: what it keeps is then what autocast makes of the image.
        dtype = torch.get_autocast_dtype(device)
        x = x.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    return _MaskedConv.apply(x, weight, mask, bias, dtype, (stride, padding, dilation, groups))
