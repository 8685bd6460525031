"""The mask against a loop in plain Python, and its behaviour at the ends of the range."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gmconv_mmdet import gaussian_mask

from ..oracles import loop_mask

SIZES = [(1, 1), (1, 7), (7, 1), (3, 3), (4, 4), (2, 5), (6, 3), (7, 7), (31, 31)]


@pytest.mark.parametrize('kernel_size', SIZES)
@pytest.mark.parametrize('sigma', [(0.3, 0.3), (1.0, 2.5), (5.0, 5.0), (40.0, 0.7)])
def test_equals_loop(kernel_size, sigma):
    mask = gaussian_mask(kernel_size, torch.tensor(sigma, dtype=torch.float64))
    expected = loop_mask(*kernel_size, *sigma)
    assert mask.shape == kernel_size
    torch.testing.assert_close(mask, expected, rtol=1e-13, atol=1e-300)
    if sigma[0] == sigma[1]:
        circular = gaussian_mask(kernel_size, torch.tensor(sigma[:1], dtype=torch.float64))
        torch.testing.assert_close(circular, mask, rtol=1e-12, atol=1e-300)


@settings(max_examples=60, deadline=None)
@given(kernel_h=st.integers(1, 13), kernel_w=st.integers(1, 13),
       sigma=st.lists(st.floats(0.05, 1e4), min_size=1, max_size=2))
def test_rules_that_hold_for_every_mask(kernel_h, kernel_w, sigma):
    sigma = torch.tensor(sigma, dtype=torch.float64)
    mask = gaussian_mask((kernel_h, kernel_w), sigma)
    assert mask.max() == 1 and mask.min() >= 0
    assert torch.equal(mask, mask.flip(0)) and torch.equal(mask, mask.flip(1))
    assert torch.equal(mask, gaussian_mask((kernel_h, kernel_w), -sigma))
    assert (gaussian_mask((kernel_h, kernel_w), sigma * 1.5) >= mask).all()
    transposed = gaussian_mask((kernel_w, kernel_h), sigma.flip(0))
    assert torch.equal(mask, transposed.transpose(-1, -2))


def test_leading_dimensions():
    sigma = torch.rand(2, 0, 3, 2)
    assert gaussian_mask((3, 5), sigma).shape == (2, 0, 3, 3, 5)
    sigma = torch.rand(4, 1) + 0.5
    masks = gaussian_mask((3, 5), sigma)
    for mask, s in zip(masks, sigma):
        assert torch.equal(mask, gaussian_mask((3, 5), s))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize('value', [0.0, 1e-30, 1e-7, 1e-3, 0.01, 0.03, 0.2, 1e4, 6e4, 1e18, 1e30])
def test_finite_forward_and_backward_at_extremes(dtype, value):
    sigma = torch.tensor([value], dtype=dtype, requires_grad=True)
    if not torch.isfinite(sigma).all():
        pytest.skip(f'{value} is not finite in {dtype}')
    mask = gaussian_mask((7, 4), sigma)
    assert mask.dtype == dtype and torch.isfinite(mask).all() and mask.max() == 1
    mask.float().sum().backward()
    assert torch.isfinite(sigma.grad).all()


def test_limits():
    delta = gaussian_mask((3, 3), torch.zeros(1))
    assert delta[1, 1] == 1 and delta.sum() == 1
    assert gaussian_mask((4, 4), torch.zeros(1)).sum() == 4  # four cells share an even centre
    assert (gaussian_mask((7, 7), torch.tensor([1e12])) == 1).all()


def test_half_precision_is_the_rounded_fp32_mask():
    sigma = torch.tensor([1.7, 0.6])
    for dtype in (torch.float16, torch.bfloat16):
        low = sigma.to(dtype)
        assert torch.equal(gaussian_mask((31, 31), low),
                           gaussian_mask((31, 31), low.float()).to(dtype))


def test_gradcheck():
    for size in ((3, 3), (4, 7)):
        for shape in ((1, ), (2, ), (3, 2)):
            sigma = (torch.rand(shape, dtype=torch.float64) + 0.7).requires_grad_()
            assert torch.autograd.gradcheck(lambda s: gaussian_mask(size, s), sigma)


@pytest.mark.parametrize('sigma', [torch.tensor(5.0), torch.rand(3), torch.ones(1, dtype=torch.int)])
def test_refuses_other_shapes_and_integers(sigma):
    with pytest.raises(ValueError, match=r'shape \(\.\.\., 1\) or \(\.\.\., 2\), got'):
        gaussian_mask((3, 3), sigma)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('value', [2e38, -2e38, 1e-45, 3e19])
def test_gradients_of_gradients_are_finite_at_extremes(dtype, value):
    sigma = torch.tensor([value], dtype=dtype, requires_grad=True)
    mask = gaussian_mask((5, 5), sigma)
    assert torch.isfinite(mask).all() and mask.max() == 1
    gradient, = torch.autograd.grad(mask.square().sum(), sigma, create_graph=True)
    gradient.sum().backward()
    assert torch.isfinite(gradient).all() and torch.isfinite(sigma.grad).all()
