"""Gaussian Mask convolution (GMConv, arXiv 2302.04544): a convolution whose kernel is multiplied by
a learned Gaussian mask, static (one sigma a layer) or dynamic (sigmas predicted per sample).
"""
from __future__ import annotations

import torch
import torch.nn as nn
from mmengine.registry import MODELS
from torch import Tensor

from . import grouped_samples
from .frozen_product import FrozenProduct
from .gaussian_mask import gaussian_mask
from .masked_conv import can_recompute, masked_conv2d
from .sigma_predictor import SigmaPredictor, check_sigma_options


@MODELS.register_module('GMConv')
class GMConv2d(nn.Conv2d):
    r"""``nn.Conv2d`` with the weight :math:`W' = W \otimes M` (Eq. 2), :math:`M` a Gaussian mask.

    * static: :math:`M` is the circular mask of one learnable ``sigma``, shape ``(1,)``. After training
      :meth:`switch_to_deploy` multiplies it into the weight and a plain convolution is left.
    * dynamic: a :class:`SigmaPredictor` gives each sample a mask of its own, from the layer's input.

    ``weight`` and ``bias`` are those of ``nn.Conv2d``, under the same names. A 1x1 kernel's mask is 1:
    such a layer has no sigma and is a plain convolution.

    Usable wherever a config takes a ``conv_cfg``: ``conv_cfg=dict(type='GMConv', dynamic=True)``. It
    derives from ``nn.Conv2d`` directly because MMEngine's initialisers look no further than a layer's
    class and its direct bases.

    Args:
        *args, **kwargs: all of ``nn.Conv2d``'s arguments.
        dynamic (bool): predict sigmas per sample instead of learning one for the layer.
        init_sigma (float): sigma at the start, in kernel cells; positive and finite.
        sigma_pattern (str): dynamic only, see :class:`SigmaPredictor`.
        reduction (float): dynamic only, see :class:`SigmaPredictor`.

    Raises:
        ValueError: a value of ours outside its range. ``nn.Conv2d`` checks its own arguments.
    """

    def __init__(self,
                 *args,
                 dynamic: bool = False,
                 init_sigma: float = 5.0,
                 sigma_pattern: str = 'sigma_ratio',
                 reduction: float = 4 / 3,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(dynamic, bool):
            raise ValueError(f'dynamic must be True or False, got {dynamic!r}')
        check_sigma_options(init_sigma, sigma_pattern, reduction)
        options = dict(device=self.weight.device, dtype=self.weight.dtype)
        self.register_parameter('sigma', None)
        self.sigma_predictor = None
        self.init_sigma = float(init_sigma)
        self._frozen_product = FrozenProduct()
        if self.kernel_size == (1, 1):
            return
        if dynamic:
            self.sigma_predictor = SigmaPredictor(self.in_channels, init_sigma, sigma_pattern,
                                                  reduction, **options)
        else:
            self.sigma = nn.Parameter(torch.full((1, ), self.init_sigma, **options))

    @property
    def dynamic(self) -> bool:
        """Whether each sample gets a mask of its own."""
        return self.sigma_predictor is not None

    @property
    def kernel_is_frozen(self) -> bool:
        """Whether the weight is frozen. The mask may learn nevertheless."""
        return not self.weight.requires_grad

    def mask_parameters(self) -> list[nn.Parameter]:
        """What the mask learns: sigma, or the predictor's parameters, or nothing."""
        return [self.sigma] if self.sigma is not None else (
            list(self.sigma_predictor.parameters()) if self.dynamic else [])

    def mask_is_initial(self) -> bool:
        """Whether the mask has learned nothing yet: it is, for every input, that of ``init_sigma``.
        False for a layer without a mask."""
        if self.dynamic:
            return self.sigma_predictor.is_initial()
        return self.sigma is not None and bool((self.sigma == self.init_sigma).all())

    def mask(self, x: Tensor | None = None) -> Tensor:
        """The mask on the kernel.

        Args:
            x (Tensor, optional): the layer's input ``(N, C, H, W)``; a dynamic layer needs it.

        Returns:
            Tensor: ``(K_h, K_w)`` for a static layer, in the weight's dtype (all ones without a
            sigma: a 1x1 kernel, or after :meth:`switch_to_deploy`); ``(N, K_h, K_w)`` for a dynamic
            one, fp32 or fp64.

        Raises:
            ValueError: a dynamic layer without input.
        """
        if self.dynamic:
            if x is None:
                raise ValueError('the mask of a dynamic GMConv depends on its input: call mask(x)')
            return gaussian_mask(self.kernel_size, self.sigma_predictor(x))
        if self.sigma is None:
            return self.weight.new_ones(self.kernel_size)
        return gaussian_mask(self.kernel_size, self.sigma)

    def unmasked_weight(self) -> Tensor:
        """What the mask is multiplied onto, ``(C_out, C_in / groups, K_h, K_w)``."""
        return self.weight

    def plain_weight(self) -> Tensor | None:
        """Weight of the ``nn.Conv2d`` that this layer equals, ``(C_out, C_in / groups, K_h, K_w)``;
        None where there is none, because the mask depends on the input."""
        if self.dynamic:
            return None
        weight = self.unmasked_weight()
        return weight if self.sigma is None else weight * self.mask()

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # Here rather than in forward(), because mmcv's efficient_conv_bn_eval calls this method
        # with a weight of its own, into which it has multiplied the batch norm.
        if self.dynamic:
            return self._forward_dynamic(x, weight, bias)
        if self.sigma is not None:
            if (self.padding_mode == 'zeros' and (weight.requires_grad or self.sigma.requires_grad)
                    and can_recompute(x, weight, self.padding)):
                self._frozen_product.forget()
                return masked_conv2d(x, weight, self.mask(), bias, self.stride, self.padding,
                                     self.dilation, self.groups)
            weight = (self._frozen_product(weight, self.sigma, self.mask)
                      if weight is self.weight else weight * self.mask())
        return super()._conv_forward(x, weight, bias)

    def _forward_dynamic(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if x.dim() == 3:
            return self._forward_dynamic(x.unsqueeze(0), weight, bias).squeeze(0)
        masks = self.mask(x).to(weight.dtype)  # (N, K_h, K_w)
        convolve = super()._conv_forward
        if len(masks) == 0:
            # An empty sum keeps the predictor in the graph, as DDP demands of every parameter.
            return convolve(x, weight * masks.sum(0), bias)
        if self.padding_mode == 'zeros' and grouped_samples.pays(x, weight):
            return grouped_samples.conv2d_per_sample(x, weight, masks, bias, self.stride,
                                                     self.padding, self.dilation, self.groups)
        # One convolution a sample: of the exact forms the fastest in training on a CPU, 1.0-1.6 times
        # the plain 7x7 stem forward and backward (2x512^2, 16x96^2, 64x64^2), where one grouped
        # convolution over all samples took 1.5-2.4 times and unfold with a matrix product 1.5-3.2.
        # It also leaves a sample's result independent of its batch mates to the last bit.
        outputs = [convolve(sample, weight * mask, bias) for sample, mask in zip(x.split(1), masks)]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        """Multiply a static mask into the weight, in place, and drop sigma: a plain convolution.

        Exact, and safe to repeat. A dynamic layer is left as it is: its mask depends on the input.
        (The name is the one that timm's ``reparameterize_model`` looks for.)
        """
        if self.sigma is not None:
            # A new parameter: the old one may be another layer's too.
            self.weight = nn.Parameter(self.plain_weight(), self.weight.requires_grad)
            self.sigma = None

    def extra_repr(self) -> str:
        kind = 'dynamic' if self.dynamic else 'static' if self.sigma is not None else 'plain'
        return f'{super().extra_repr()}, mask={kind}'
