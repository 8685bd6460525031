"""A frozen layer keeps its masked weight, and drops it whatever way its parameters were changed."""
import copy
import pickle

import pytest
import torch
import torch.nn as nn
from mmengine.model import ExponentialMovingAverage
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from gmconv_mmdet import GMConv2d


@pytest.fixture
def conv():
    torch.manual_seed(0)
    return GMConv2d(3, 4, 3, init_sigma=1.3, padding=1).requires_grad_(False)


@pytest.fixture
def x():
    return torch.randn(2, 3, 6, 6, requires_grad=True)


def expected(conv, x):
    return nn.functional.conv2d(x, conv.weight * conv.mask(), conv.bias, padding=1)


class ExponentialCounter(TorchDispatchMode):
    """Counts exponentials: a mask takes one."""
    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten.exp.default
        return function(*args, **(kwargs or {}))


def masks_computed(forward):
    with ExponentialCounter() as counter:
        forward()
    return counter.count


def test_a_frozen_layer_computes_its_mask_once(conv, x):
    reference = expected(conv, x)

    def three_steps():
        for _ in range(3):
            out = conv(x)
            out.sum().backward()  # repeatedly: the product holds no graph
            assert torch.equal(out, reference)

    assert masks_computed(three_steps) == 1
    assert masks_computed(three_steps) == 0


@pytest.mark.parametrize('free', ['weight', 'sigma'])
def test_a_layer_that_learns_computes_its_mask_in_every_step(conv, x, free):
    getattr(conv, free).requires_grad_(True)

    def three_steps():
        for _ in range(3):
            conv(x).sum().backward()

    assert masks_computed(three_steps) == 3
    assert getattr(conv, free).grad is not None


def average_in_place(conv):
    """As MMEngine's EMA hook swaps an average in: through ``.data``."""
    average = ExponentialMovingAverage(GMConv2d(3, 4, 3, init_sigma=0.7, padding=1))
    for ours, theirs in zip(conv.parameters(), average.module.parameters()):
        ours.data.copy_(theirs.data)


CHANGES = dict(
    load_state_dict=lambda conv: conv.load_state_dict(GMConv2d(3, 4, 3, init_sigma=0.7).state_dict()),
    average_in_place=average_in_place,
    weight_in_place=lambda conv: conv.weight.mul_(2),
    weight_data_in_place=lambda conv: conv.weight.data.mul_(2),
    one_weight_through_numpy=lambda conv: conv.weight.numpy().__setitem__((0, 0, 0, 0), 9),
    weight_data=lambda conv: setattr(conv.weight, 'data', torch.randn(4, 3, 3, 3)),
    weight=lambda conv: setattr(conv, 'weight', nn.Parameter(torch.randn(4, 3, 3, 3), False)),
    sigma_in_place=lambda conv: conv.sigma.fill_(0.5),
    sigma_data_in_place=lambda conv: conv.sigma.data.fill_(0.5),
    sigma_data=lambda conv: setattr(conv.sigma, 'data', torch.tensor([0.5])),
    initialisers=lambda conv: (nn.init.normal_(conv.weight), nn.init.constant_(conv.sigma, 0.4)),
    channels_last=lambda conv: conv.to(memory_format=torch.channels_last),
    unfreeze=lambda conv: conv.requires_grad_(True),
    unfreeze_and_step=lambda conv: (conv.requires_grad_(True), conv.weight.data.add_(1),
                                    conv.requires_grad_(False)),
    deploy=lambda conv: conv.switch_to_deploy(),
)


@pytest.mark.parametrize('change', CHANGES)
def test_every_change_is_seen(conv, x, change):
    before = conv(x)
    CHANGES[change](conv)
    assert torch.equal(conv(x), expected(conv, x))
    if change not in ('channels_last', 'unfreeze', 'deploy'):
        assert not torch.allclose(conv(x), before)


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_dtype_and_device_moves(conv, x, dtype):
    conv(x)
    conv.to(dtype)
    out = conv(x.to(dtype))
    assert out.dtype == dtype and torch.equal(out, expected(conv, x.to(dtype)))
    assert conv.to('meta')(x.to(dtype).to('meta')).device.type == 'meta'


def test_copies_pickles_and_state_dict_hold_no_product(conv, x):
    keys, size = set(conv.state_dict()), len(pickle.dumps(conv))
    conv(x)
    assert set(conv.state_dict()) == keys and len(pickle.dumps(conv)) == size
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        other.sigma.data.fill_(0.5)
        assert torch.equal(other(x), expected(other, x))
    assert torch.equal(conv(x), expected(conv, x))


def test_training_after_validation(conv, x):
    """A product computed in inference mode could not be used in training."""
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            assert torch.equal(conv(x), expected(conv, x))
        conv(x).sum().backward()
        with mode():
            conv(x)
        conv(x).sum().backward()


def test_parameters_born_in_inference_mode(x):
    with torch.inference_mode():
        conv = GMConv2d(3, 4, 3, padding=1).requires_grad_(False)
        conv(x)
        conv.sigma.fill_(0.5)
        assert torch.equal(conv(x), expected(conv, x))


def test_stand_ins_for_parameters(conv, x):
    conv(x)
    parameters = {name: p.detach() + 1 for name, p in conv.named_parameters()}
    other = copy.deepcopy(conv)
    other.load_state_dict(parameters)
    assert torch.equal(functional_call(conv, parameters, (x, )), expected(other, x))
    grads = torch.func.grad(lambda p: functional_call(conv, p, (x, )).square().sum())(parameters)
    assert all(grad.any() for grad in grads.values())


def test_tracing_records_the_mask(conv, x):
    conv(x)
    traced = torch.jit.trace(conv, x.detach())
    other = torch.randn(1, 3, 9, 7)
    assert torch.equal(traced(other), expected(conv, other))
