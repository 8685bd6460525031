"""Gaussian Mask convolution (GMConv, arXiv 2302.04544): a convolution whose kernel is multiplied by
a learned Gaussian mask, static (one sigma a layer) or dynamic (sigmas predicted per sample).
"""
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .gaussian_mask import circular_mask, elliptical_mask, unit_exponents
from .plain_weights import divided_by_initial_mask
from .recorded import is_recorded
from .sample_conv import conv2d_by_columns
from .sigma_predictor import SigmaPredictor, check_sigma_options

# Tensors of a mask, by their names below the layer's.
MASK_NAMES = ('sigma', 'sigma_predictor.w0', 'sigma_predictor.w1', 'sigma_predictor.b1')


class GMConv2d(nn.Conv2d):
    r"""``nn.Conv2d`` with the weight :math:`W' = W \otimes M` (Eq. 2), :math:`M` a Gaussian mask.

    * static: :math:`M` is the circular mask of one learnable ``sigma``, shape ``(1,)``. After training
      :meth:`switch_to_deploy` multiplies it into the weight and a plain convolution is left.
    * dynamic: a :class:`SigmaPredictor` gives each sample a mask of its own, from the layer's input.

    ``weight`` and ``bias`` are those of ``nn.Conv2d``, under the same names. A 1x1 kernel's mask is 1:
    such a layer has no sigma and is a plain convolution.

    A state dict with the layer's weight and nothing of its mask comes from a plain convolution. The
    layer takes it so that it computes what that convolution did, whatever loads it: the mask goes
    back to ``init_sigma`` and the weight is divided by it (see ``preserve``).

    Usable wherever a config takes a ``conv_cfg``: ``conv_cfg=dict(type='GMConv', dynamic=True)``. It
    derives from ``nn.Conv2d`` directly because MMEngine's initialisers look no further than a layer's
    class and its direct bases.

    Args:
        *args, **kwargs: all of ``nn.Conv2d``'s arguments.
        dynamic (bool): predict sigmas per sample instead of learning one for the layer.
        init_sigma (float): sigma at the start, in kernel cells; positive and finite.
        sigma_pattern (str): dynamic only, see :class:`SigmaPredictor`.
        reduction (float): dynamic only, see :class:`SigmaPredictor`.
        input_scale (float): dynamic only, see :class:`SigmaPredictor`: 1 for normalised images, about
            60 for pixels of 0 to 255.
        preserve (bool): keep the function of a plain convolution whose weights are loaded. ``False``
            copies them as they are; the layer then starts from masked weights.

    Raises:
        ValueError: a value of ours outside its range. ``nn.Conv2d`` checks its own arguments.
    """

    # A network that counts the layers that take plain weights says so in one line instead.
    warns_of_plain_weights = True
    sigma: nn.Parameter | None
    sigma_predictor: SigmaPredictor | None
    _exponents: Tensor

    def __init__(self,
                 *args: Any,
                 dynamic: bool = False,
                 init_sigma: float = 5.0,
                 sigma_pattern: str = 'sigma_ratio',
                 reduction: float = 4 / 3,
                 input_scale: float = 1.0,
                 preserve: bool = True,
                 **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, value in (('dynamic', dynamic), ('preserve', preserve)):
            if not isinstance(value, bool):
                raise ValueError(f'{name} must be True or False, got {value!r}')
        check_sigma_options(init_sigma, sigma_pattern, reduction, input_scale)
        device, dtype = self.weight.device, self.weight.dtype
        self.register_parameter('sigma', None)
        self.sigma_predictor = None
        self.init_sigma = float(init_sigma)
        self.preserve = preserve
        if self.kernel_size == (1, 1):
            return
        if dynamic:
            self.sigma_predictor = SigmaPredictor(self.in_channels, init_sigma, sigma_pattern,
                                                  reduction, input_scale, device, dtype)
        else:
            self.sigma = nn.Parameter(torch.full((1, ), self.init_sigma, device=device,
                                                 dtype=dtype))
        self._set_exponents()

    def _set_exponents(self) -> None:
        """Exponents of the mask of sigma 1, on the weight's device: ``(K_h, K_w)`` for a static layer,
        ``(2, K_h, K_w)`` for a dynamic one; fp32, or fp64 for an fp64 weight. In no state dict."""
        with torch.inference_mode(False):  # tensors born in inference mode can't be trained with
            exponents = unit_exponents(self.kernel_size,
                                       torch.promote_types(self.weight.dtype, torch.float32),
                                       self.weight.device)
            exponents = exponents if self.dynamic else exponents.sum(0)
        self.register_buffer('_exponents', exponents, persistent=False)

    def _apply(self, *args: Any, **kwargs: Any) -> GMConv2d:
        # Moves and casts, `to_empty` among them: the exponents are made anew, since bf16 can't hold
        # those of large kernels, and memory from `to_empty` holds anything.
        super()._apply(*args, **kwargs)
        if self.mask_parameters():
            self._set_exponents()
        return self

    def reset_parameters(self) -> None:
        """As ``nn.Conv2d``; the mask goes back to ``init_sigma``."""
        super().reset_parameters()
        if 'sigma' not in self._parameters:  # nn.Conv2d calls this before there is a mask
            return
        if self.sigma is not None:
            nn.init.constant_(self.sigma, self.init_sigma)
        if self.sigma_predictor is not None:
            self.sigma_predictor.reset_parameters()

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
        if self.sigma_predictor is not None:
            return list(self.sigma_predictor.parameters())
        return [] if self.sigma is None else [self.sigma]

    def mask_is_initial(self) -> bool:
        """Whether the mask has learned nothing yet: it is, for every input, that of ``init_sigma``.
        False for a layer without a mask."""
        if self.sigma_predictor is not None:
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
        if self.sigma_predictor is not None:
            if x is None:
                raise ValueError('the mask of a dynamic GMConv depends on its input: call mask(x)')
            sigma: Tensor = self.sigma_predictor(x)
            if self.sigma_predictor.sigma_pattern == 'sigma':
                return circular_mask(self._exponents.sum(0), sigma.unsqueeze(-1))
            return elliptical_mask(self._exponents, sigma)
        if self.sigma is None:
            return self.weight.new_ones(self.kernel_size)
        return circular_mask(self._exponents, self.sigma)

    def plain_weight(self) -> Tensor | None:
        """Weight of the ``nn.Conv2d`` that this layer equals, ``(C_out, C_in / groups, K_h, K_w)``;
        None where there is none, because the mask depends on the input."""
        if self.dynamic:
            return None
        return self.weight if self.sigma is None else self.weight * self.mask()

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C_in, H, W)`` or ``(C_in, H, W)`` to what ``nn.Conv2d`` gives with the masked
        weight."""
        # As nn.Conv2d's, which torch 2.1's compiler would not look into.
        return self._conv_forward(x, self.weight, self.bias)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # Here rather than in forward(), because mmcv's efficient_conv_bn_eval calls this method
        # with a weight of its own, into which it has multiplied the batch norm.
        if self.sigma_predictor is not None:
            return self._forward_dynamic(x, weight, bias)
        if self.sigma is not None:
            weight = weight * self.mask()
        result: Tensor = super()._conv_forward(x, weight, bias)
        return result

    def _forward_dynamic(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if x.dim() == 3:
            return self._forward_dynamic(x.unsqueeze(0), weight, bias).squeeze(0)
        masks = self.mask(x).to(weight.dtype)  # (N, K_h, K_w)
        if is_recorded():
            mode = 'constant' if self.padding_mode == 'zeros' else self.padding_mode
            x = F.pad(x, self._reversed_padding_repeated_twice, mode=mode)
            return conv2d_by_columns(x, weight, masks, bias, self.stride, self.dilation,
                                     self.groups)
        convolve: Callable[..., Tensor] = super()._conv_forward
        if len(masks) == 0:
            # An empty sum keeps the predictor in the graph, as DDP demands of every parameter.
            return convolve(x, weight * masks.sum(0), bias)
        # One convolution a sample: of the exact forms the fastest in training on a CPU, 1.0-1.6 times
        # the plain 7x7 stem forward and backward (2x512^2, 16x96^2, 64x64^2), where one grouped
        # convolution over all samples took 1.5-2.4 times and unfold with a matrix product 1.5-3.2.
        # It also leaves a sample's result independent of its batch mates to the last bit.
        outputs = [convolve(sample, weight * mask, bias) for sample, mask in zip(x.split(1), masks)]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str,
                              local_metadata: dict[str, Any], strict: bool,
                              missing_keys: list[str], unexpected_keys: list[str],
                              error_msgs: list[str]) -> None:
        if self.takes_plain_weight(state_dict, prefix):
            try:
                # Into the dictionary, which PyTorch's and MMEngine's loaders copy for this purpose:
                # a predictor's own part of it is made after this call.
                state_dict.update(self._from_plain(state_dict[f'{prefix}weight'], prefix))
                if self.warns_of_plain_weights:
                    warnings.warn('a GMConv layer took plain weights: divided by the mask of '
                                  'init_sigma, so that it computes what the plain convolution did '
                                  '(preserve=False copies them as they are)', stacklevel=2)
            except ValueError as error:
                error_msgs.append(f'{prefix}weight: {error}')
        kind = self.weight.device, self.weight.dtype
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys,
                                      unexpected_keys, error_msgs)
        if self.mask_parameters() and kind != (self.weight.device, self.weight.dtype):
            self._set_exponents()  # `assign=True`

    def takes_plain_weight(self, state_dict: dict[str, Any], prefix: str) -> bool:
        """Whether this layer, named ``prefix`` with a dot in ``state_dict``, finds a plain
        convolution's weight there, and is to keep its function."""
        weight = state_dict.get(f'{prefix}weight')
        return (self.preserve and bool(self.mask_parameters()) and isinstance(weight, Tensor)
                and weight.shape == self.weight.shape and weight.is_floating_point()
                and not weight.is_meta
                and not any(f'{prefix}{name}' in state_dict for name in MASK_NAMES))

    def _from_plain(self, weight: Tensor, prefix: str) -> dict[str, Tensor]:
        """A state dict's entries for a layer that computes as the plain convolution of ``weight``."""
        entries = {'weight': divided_by_initial_mask(weight, self.init_sigma, self.weight.dtype)}
        if self.sigma_predictor is not None:
            entries.update((f'sigma_predictor.{name}', value) for name, value in
                           self.sigma_predictor.initial_state(weight.device).items())
        else:
            entries['sigma'] = torch.full((1, ), self.init_sigma, device=weight.device,
                                          dtype=self.weight.dtype)
        return {f'{prefix}{name}': value for name, value in entries.items()}

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        """Multiply a static mask into the weight, in place, and drop sigma: a plain convolution.

        Exact, and safe to repeat. A dynamic layer is left as it is: its mask depends on the input.
        (The name is the one that timm's ``reparameterize_model`` looks for.)
        """
        if self.sigma is not None:
            # A new parameter: the old one may be another layer's too.
            self.weight = nn.Parameter(self.weight * self.mask(), self.weight.requires_grad)
            self.sigma = None

    def extra_repr(self) -> str:
        kind = 'dynamic' if self.dynamic else 'static' if self.sigma is not None else 'plain'
        return f'{super().extra_repr()}, mask={kind}'
