import pytest
import torch
import torch.nn.functional as F

from gmconv_mmdet.layers.grouped_samples import conv2d_per_sample, pays


@pytest.mark.parametrize('samples', [1, 5])
@pytest.mark.parametrize('image, kernel, geometry', [
    ((3, 9, 8), (4, 3, 3, 3), ((2, 1), (1, 0), (1, 1), 1)),
    ((4, 7, 7), (6, 2, 2, 3), ((1, 1), 'same', (1, 2), 2)),
    ((3, 6, 6), (3, 1, 3, 3), ((1, 1), (1, 1), (1, 1), 3)),
])
@pytest.mark.parametrize('with_bias', [False, True])
def test_equals_one_convolution_a_sample(samples, image, kernel, geometry, with_bias):
    torch.manual_seed(0)
    x, weight, masks = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in (
        (samples, *image), kernel, (samples, *kernel[2:])))
    bias = torch.randn(kernel[0], dtype=torch.float64, requires_grad=True) if with_bias else None
    inputs = [tensor for tensor in (x, weight, masks, bias) if tensor is not None]
    out = conv2d_per_sample(x, weight, masks, bias, *geometry)
    expected = torch.cat([F.conv2d(sample, weight * mask, bias, *geometry)
                          for sample, mask in zip(x.split(1), masks)])
    torch.testing.assert_close(out, expected)
    for grad, expected_grad in zip(torch.autograd.grad(out.square().sum(), inputs),
                                   torch.autograd.grad(expected.square().sum(), inputs)):
        torch.testing.assert_close(grad, expected_grad)


def test_not_on_a_cpu():
    assert not pays(torch.zeros(128, 3, 32, 32), torch.zeros(16, 3, 3, 3))
