"""The dynamic sigma module of GMConv (arXiv 2302.04544, Eq. 7, Fig. 5 and Table IV)."""
from __future__ import annotations

import math
import warnings
from numbers import Real
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from .recorded import is_recorded

# Pooled features of normalised images are at most about 5. From this on they are far from it.
_LARGE_FEATURE = 10

# What the module predicts (Table IV) -> how many numbers that is.
SIGMA_PATTERNS = {'sigma': 1, 'sigma_pair': 2, 'sigma_ratio': 2}


def check_sigma_options(init_sigma: float, sigma_pattern: str, reduction: float,
                        input_scale: float = 1.0) -> None:
    """Raise a ``ValueError`` that names the rule and the value for an option outside its range."""
    for name, value in (('init_sigma', init_sigma), ('reduction', reduction),
                        ('input_scale', input_scale)):
        if not isinstance(value, Real) or not 0 < value < math.inf:
            raise ValueError(f'{name} must be a positive finite number, got {value!r}')
    if sigma_pattern not in SIGMA_PATTERNS:
        raise ValueError(f'sigma_pattern must be one of {list(SIGMA_PATTERNS)}, '
                         f'got {sigma_pattern!r}')


class SigmaPredictor(nn.Module):
    r"""Predicts the sigmas of one mask per sample from globally pooled features.

    .. math:: F_\sigma(z) = W_1 \cdot \mathrm{ReLU}(W_0 \cdot z) + B_1, \qquad
              z = \mathrm{concat}(\text{global max pool}, \text{global average pool})

    Differences from the paper, which gives no initial values: here ``W_1 = 0`` and
    ``B_1 = (init_sigma, 1)`` for ``'sigma_ratio'`` (else ``init_sigma`` throughout), so that training
    starts from the static mask of ``init_sigma``; and the rows of ``W_0`` start as opposite pairs
    ``w, -w``, so that for every input half of the hidden units are active. (With independent rows one
    stem in sixteen would start with all four of its hidden units dead and never become dynamic.)

    The arithmetic runs in fp32 (fp64 for fp64 input) under autocast too: a sigma of 5 has a
    resolution of 0.03 in bf16. The parameters are this module's own rather than those of an
    ``nn.Linear``: MMEngine's initialisers act on layers by class, and one that names ``Linear`` would
    reset ``B_1`` to 0, which is a mask that passes the centre only.

    Args:
        in_channels (int): ``C``, channels of the feature map.
        init_sigma (float): sigma at the start, in kernel cells.
        sigma_pattern (str): ``'sigma'`` predicts one value, ``s1 = s2``; ``'sigma_pair'`` predicts
            ``(s1, s2)``; ``'sigma_ratio'`` predicts ``(s1, r)`` with ``s2 = s1 * r``.
        reduction (float): ``r`` of Eq. 7; there are ``floor(2C / r)`` hidden units.
        input_scale (float): typical size of the features' values, by which they are divided first. 1
            for normalised images, about 60 for pixels of 0 to 255 (their spread): with features that
            are 60 times as large, steps of ``W_1`` change the prediction 60^2 times as much, and
            the first ones throw the masks to ones for ever. Not in the paper, whose images are
            normalised.

    Raises:
        ValueError: an option outside its range, or a reduction that leaves no hidden unit.
    """

    def __init__(self,
                 in_channels: int,
                 init_sigma: float = 5.0,
                 sigma_pattern: str = 'sigma_ratio',
                 reduction: float = 4 / 3,
                 input_scale: float = 1.0,
                 device: torch.device | str | None = None,
                 dtype: torch.dtype | None = None) -> None:
        super().__init__()
        check_sigma_options(init_sigma, sigma_pattern, reduction, input_scale)
        # 1e-9: 2C / (4/3) must not fall below a whole number by rounding.
        hidden = math.floor(2 * in_channels / reduction + 1e-9)
        if hidden < 1:
            raise ValueError(f'reduction must not exceed 2 * in_channels = {2 * in_channels}, or no '
                             f'hidden unit is left, got {reduction!r}')
        self.in_channels = in_channels
        self.init_sigma = float(init_sigma)
        self.sigma_pattern = sigma_pattern
        self.input_scale = float(input_scale)
        self._scale_is_checked = False
        self._register_state_dict_hook(_note_pattern)
        outputs = SIGMA_PATTERNS[sigma_pattern]
        self.w0, self.w1, self.b1 = (
            nn.Parameter(torch.empty(size, device=device, dtype=dtype))
            for size in ((hidden, 2 * in_channels), (outputs, hidden), (outputs, )))
        self.reset_parameters()

    def initial_b1(self) -> list[float]:
        """``B_1`` at the start: what predicts ``init_sigma``, as long as the pattern has numbers."""
        outputs = SIGMA_PATTERNS[self.sigma_pattern]
        return [self.init_sigma, 1.0] if self.sigma_pattern == 'sigma_ratio' else (
            [self.init_sigma] * outputs)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Back to the start: predictions of ``init_sigma`` for every input."""
        _draw_opposite_pairs(self.w0)
        nn.init.zeros_(self.w1)
        self.b1.copy_(self.b1.new_tensor(self.initial_b1()))

    def initial_state(self, device: torch.device | None = None) -> dict[str, Tensor]:
        """A state dict that predicts ``init_sigma`` for every input; ``w0`` as it is (on ``meta``:
        drawn)."""
        w0 = self.w0.detach()
        return dict(w0=_draw_opposite_pairs(torch.empty_like(w0, device=device)) if w0.is_meta
                    else w0.clone(),
                    w1=torch.zeros(self.w1.shape, dtype=self.w1.dtype, device=device),
                    b1=torch.tensor(self.initial_b1(), dtype=self.b1.dtype, device=device))

    def is_initial(self) -> bool:
        """Whether the prediction is still ``init_sigma`` for every input."""
        return not self.w1.any() and torch.equal(self.b1, self.b1.new_tensor(self.initial_b1()))

    def forward(self, x: Tensor) -> Tensor:
        """Sigmas of each sample.

        Args:
            x (Tensor): features ``(N, C, H, W)``.

        Returns:
            Tensor: ``(N, 1)`` for pattern ``'sigma'``, else ``(N, 2)`` with ``(s1, s2)``; fp32, or
            fp64 for fp64 parameters.
        """
        # Not torch.promote_types, which torch 2.1 can't compile.
        dtype = torch.float64 if self.w0.dtype == torch.float64 else torch.float32
        # In the features' own dtype first: the maximum is exact there, and the mean accumulates in
        # fp32. Both are (N, C).
        z = torch.cat([x.amax(dim=(2, 3)).to(dtype), x.mean(dim=(2, 3), dtype=dtype)], dim=1)
        if self.input_scale != 1:
            z = z / self.input_scale
        if self.training and not self._scale_is_checked:
            self._check_scale(z)
        # Products and sums instead of F.linear, which autocast would run in half precision and whose
        # rounding depends on the batch size. (N, 1, 2C) * (hidden, 2C) -> (N, hidden), and so on.
        hidden = (z.unsqueeze(1) * self.w0.to(dtype)).sum(-1).relu()
        predicted = (hidden.unsqueeze(1) * self.w1.to(dtype)).sum(-1) + self.b1.to(dtype)
        if self.sigma_pattern == 'sigma_ratio':
            sigma, ratio = predicted.unbind(dim=1)
            return torch.stack([sigma, sigma * ratio], dim=1)
        return predicted

    def _check_scale(self, z: Tensor) -> None:
        """Warn of features far from the expected size: in the first training step, once."""
        if is_recorded():
            return
        try:
            largest = float(z.detach().abs().max()) if z.numel() else 0.0
        except RuntimeError:  # a transform of torch.func, whose tensors have no values yet
            return
        self._scale_is_checked = True
        if largest > _LARGE_FEATURE:
            advised = self.input_scale * largest / 4
            warnings.warn(
                f'the input of a dynamic GMConv is far from normalised: pooled values up to '
                f'{largest * self.input_scale:.3g} with input_scale={self.input_scale:g}. The first '
                'training steps would throw its masks to ones for ever. Normalise the images, or '
                f'set input_scale={advised:.2g} (in a backbone\'s config: '
                f'gm_cfg=dict(input_scale={advised:.2g}))', stacklevel=2)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str,
                              local_metadata: dict[str, Any], strict: bool,
                              missing_keys: list[str], unexpected_keys: list[str],
                              error_msgs: list[str]) -> None:
        # 'sigma_pair' and 'sigma_ratio' have tensors of equal shapes.
        saved = local_metadata.get('sigma_pattern', self.sigma_pattern)
        if saved != self.sigma_pattern and f'{prefix}b1' in state_dict:
            error_msgs.append(f'{prefix}b1: the state dict predicts {saved!r}, this layer '
                              f'{self.sigma_pattern!r}. Set sigma_pattern={saved!r}, or load it '
                              'with gmconv_mmdet.load_pretrained, which says what it can keep')
            return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys,
                                      unexpected_keys, error_msgs)

    def extra_repr(self) -> str:
        scale = f', input_scale={self.input_scale:g}' if self.input_scale != 1 else ''
        return (f'in_channels={self.in_channels}, hidden={self.w0.shape[0]}, '
                f'sigma_pattern={self.sigma_pattern!r}, init_sigma={self.init_sigma:g}{scale}')


@torch.no_grad()
def _draw_opposite_pairs(w0: Tensor) -> Tensor:
    """Fill ``w0`` with random rows, the second half the opposites of the first; returns it."""
    nn.init.kaiming_uniform_(w0, a=math.sqrt(5))
    pairs = w0.shape[0] // 2
    w0[pairs:2 * pairs] = -w0[:pairs]
    return w0


def _note_pattern(module: SigmaPredictor, state_dict: dict[str, Any], prefix: str,
                  metadata: dict[str, Any]) -> None:
    """A hook of ``state_dict()``: notes the pattern in the state dict's metadata."""
    metadata['sigma_pattern'] = module.sigma_pattern
