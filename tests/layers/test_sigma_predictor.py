"""The predictor against Eq. 7 written out in float64, its start, and its refusals."""
import math

import pytest
import torch

from gmconv_mmdet import SigmaPredictor
from gmconv_mmdet.layers import SIGMA_PATTERNS

from ..oracles import loop_prediction


def random_predictor(*args, **kwargs):
    predictor = SigmaPredictor(*args, **kwargs)
    torch.nn.init.normal_(predictor.w1)
    torch.nn.init.normal_(predictor.b1)
    return predictor


@pytest.mark.parametrize('pattern', SIGMA_PATTERNS)
@pytest.mark.parametrize('channels, reduction', [(3, 4 / 3), (1, 2.0), (5, 0.5), (16, 16)])
def test_equals_loop(pattern, channels, reduction):
    predictor = random_predictor(channels, sigma_pattern=pattern, reduction=reduction,
                                 dtype=torch.float64)
    x = torch.randn(3, channels, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(predictor(x), loop_prediction(predictor, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('channels, reduction, hidden',
                         [(3, 4 / 3, 4), (64, 4 / 3, 96), (2, 4 / 3, 3), (5, 3, 3), (1, 2, 1)])
def test_hidden_units(channels, reduction, hidden):
    assert SigmaPredictor(channels, reduction=reduction).w0.shape == (hidden, 2 * channels)


@pytest.mark.parametrize('pattern', SIGMA_PATTERNS)
def test_starts_from_the_static_mask(pattern):
    predictor = SigmaPredictor(3, init_sigma=2.5, sigma_pattern=pattern)
    assert predictor.is_initial()
    assert (predictor(torch.randn(4, 3, 8, 8)) == 2.5).all()
    with torch.no_grad():
        predictor.w1[0, 0] = 1e-3
    assert not predictor.is_initial()


def test_half_of_the_hidden_units_live_for_every_input():
    for seed in range(50):
        torch.manual_seed(seed)
        predictor = SigmaPredictor(3)
        z = torch.randn(20, 6)
        assert ((z @ predictor.w0.T) > 0).sum(1).eq(2).all()


def test_every_parameter_learns_after_one_step():
    torch.manual_seed(0)
    predictor = SigmaPredictor(3)
    optimizer = torch.optim.SGD(predictor.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        predictor(torch.randn(2, 3, 8, 8)).prod(dim=1).sum().backward()
        optimizer.step()
    assert all(p.grad.abs().sum() > 0 for p in predictor.parameters())


def test_stays_in_fp32_under_autocast_and_half():
    predictor = random_predictor(3)
    x = torch.randn(2, 3, 16, 16)
    expected = predictor(x)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(predictor(x), expected)
    for dtype in (torch.float16, torch.bfloat16):
        low = random_predictor(3).to(dtype)
        sigma = low(x.to(dtype))
        assert sigma.dtype == torch.float32
        torch.testing.assert_close(sigma.double(), loop_prediction(low, x.to(dtype)), rtol=1e-4,
                                   atol=1e-4)


def test_gradcheck():
    predictor = random_predictor(3, dtype=torch.float64)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: predictor(x), (x, *predictor.parameters()))


@pytest.mark.parametrize('options, message', [
    (dict(sigma_pattern='pair'), r"sigma_pattern must be one of .*sigma_pair.* got 'pair'"),
    (dict(reduction=0), 'reduction must be a positive finite number, got 0'),
    (dict(reduction=-1.5), 'reduction must be a positive finite number, got -1.5'),
    (dict(reduction=math.nan), 'reduction must be a positive finite number, got nan'),
    (dict(reduction='2'), "reduction must be a positive finite number, got '2'"),
    (dict(reduction=7), r'must not exceed 2 \* in_channels = 6.* got 7'),
    (dict(init_sigma=0), 'init_sigma must be a positive finite number, got 0'),
])
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        SigmaPredictor(3, **options)
