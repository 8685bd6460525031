"""``masked_conv2d`` against the plain expression, in every kind of differentiation."""
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from gmconv_mmdet import GMConv2d
from gmconv_mmdet.layers.masked_conv import masked_conv2d

GEOMETRIES = {  # x, weight, (stride, padding, dilation, groups)
    'dense': ((2, 3, 7, 6), (4, 3, 3, 3), ((1, 1), (1, 1), (1, 1), 1)),
    'grouped': ((1, 4, 5, 8), (6, 2, 2, 3), ((2, 1), (0, 2), (1, 2), 2)),
    'depthwise': ((3, 4, 5, 5), (4, 1, 3, 3), ((1, 1), (2, 2), (2, 2), 4)),
}


@pytest.fixture(params=GEOMETRIES)
def case(request):
    torch.manual_seed(0)
    image, kernel, geometry = GEOMETRIES[request.param]
    tensors = [torch.randn(shape, dtype=torch.float64).requires_grad_()
               for shape in (image, kernel, kernel[2:], kernel[:1])]
    return tensors, geometry


def plain(x, weight, mask, bias, *geometry):
    return F.conv2d(x, weight * mask, bias, *geometry)


def test_value_and_gradients(case):
    tensors, geometry = case
    results = []
    for function in (masked_conv2d, plain):
        out = function(*tensors, *geometry)
        results.append((out, *torch.autograd.grad(out.square().sum(), tensors)))
    (out, *grads), (expected, *expected_grads) = results
    assert torch.equal(out, expected)
    for grad, expected_grad in zip(grads, expected_grads):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-12, atol=1e-12)


def test_all_derivatives(case):
    tensors, geometry = case

    def function(*inputs):
        return masked_conv2d(*inputs, *geometry)

    assert torch.autograd.gradcheck(function, tensors, check_forward_ad=True,
                                    check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, tensors)


@pytest.mark.parametrize('wanted', [(0, ), (1, ), (2, ), (3, ), (0, 2), (1, 3)])
def test_gradients_of_some(case, wanted):
    tensors, geometry = case
    tensors = [tensor.detach().requires_grad_(index in wanted)
               for index, tensor in enumerate(tensors)]
    assert torch.autograd.gradcheck(lambda *inputs: masked_conv2d(*inputs, *geometry), tensors)


def test_torch_func(case):
    tensors, geometry = case
    tensors = [tensor.detach() for tensor in tensors]
    tangents = [torch.randn_like(tensor) for tensor in tensors]
    for transform in (
            lambda f: torch.func.jvp(f, tuple(tensors), tuple(tangents)),
            lambda f: torch.func.grad(lambda *inputs: f(*inputs).square().sum(), (0, 1))(*tensors),
            lambda f: torch.func.vmap(f, (None, 0, None, None))(
                tensors[0], torch.stack([tensors[1], tangents[1]]), *tensors[2:])):
        found, expected = (transform(lambda *inputs, f=f: f(*inputs, *geometry))
                           for f in (masked_conv2d, plain))
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_as_torch_does_it(dtype):
    torch.manual_seed(0)
    tensors = [torch.randn(shape, requires_grad=True)
               for shape in ((2, 3, 9, 9), (4, 3, 3, 3), (3, 3), (4, ))]
    results = []
    for function in (masked_conv2d, plain):
        with torch.autocast('cpu', dtype=dtype):
            out = function(*tensors, (1, 1), (1, 1), (1, 1), 1)
        results.append((out, *torch.autograd.grad(out.float().square().sum(), tensors)))
    for found, expected in zip(*results):
        assert found.dtype == expected.dtype and torch.equal(found, expected)


def saved_bytes(call):
    """Bytes of the distinct tensors that autograd keeps for the backward pass."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = call()  # kept alive: a freed tensor's address may be taken again
    del out
    return sum(storages.values())


def test_keeps_no_masked_weight():
    conv = GMConv2d(64, 64, 3, padding=1)
    x = torch.randn(1, 64, 4, 4, requires_grad=True)
    kernel = conv.weight.numel() * 4
    kept = saved_bytes(lambda: conv(x))
    assert kernel <= kept < 1.2 * kernel  # the weight itself
    assert saved_bytes(lambda: plain(x, conv.weight, conv.mask(), None)) > 2 * kernel


def test_keeps_no_image_after_the_backward_pass():
    conv = GMConv2d(3, 4, 3)
    x = torch.randn(1, 3, 8, 8)
    alive, loss = weakref.ref(x), conv(x).sum()
    loss.backward()
    del x
    assert alive() is None and loss.grad_fn is not None


@pytest.mark.parametrize('use_reentrant', [False, True])
def test_under_checkpointing(use_reentrant):
    conv = GMConv2d(3, 4, 3)
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    results = []
    for call in (conv, lambda x: checkpoint(conv, x, use_reentrant=use_reentrant)):
        conv.zero_grad()
        call(x).square().sum().backward()
        results.append([parameter.grad.clone() for parameter in conv.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results))


def test_a_weight_changed_before_the_backward_pass_is_noticed():
    conv = GMConv2d(3, 4, 3)
    out = conv(torch.randn(1, 3, 8, 8))
    with torch.no_grad():
        conv.weight.zero_()
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        out.sum().backward()
