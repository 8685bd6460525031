"""Masked layers under torch's transforms: torch.func, fx, compile, export, meta tensors."""
import copy
import inspect

import pytest
import torch
import torch.nn as nn

from gmconv_mmdet import GMConv2d

needs_func = pytest.mark.skipif(not hasattr(torch, 'func'), reason='torch.func came with torch 2.0')
needs_compiler = pytest.mark.skipif(not hasattr(torch, 'compiler'),
                                    reason='torch.compile serves changing sizes from torch 2.1 on')


def trained(dynamic, **kwargs):
    torch.manual_seed(0)
    conv = GMConv2d(2, 3, 3, padding=1, dynamic=dynamic, init_sigma=1.3, **kwargs)
    if dynamic:
        nn.init.normal_(conv.sigma_predictor.w1, std=0.1)
    return conv


@needs_func
@pytest.mark.parametrize('dynamic', [False, True])
def test_torch_func(dynamic):
    conv = trained(dynamic).double()
    parameters = {name: p.detach() for name, p in conv.named_parameters()}
    x = torch.randn(4, 2, 5, 5, dtype=torch.float64)

    def loss(parameters, x):
        return torch.func.functional_call(conv, parameters, (x, )).square().sum()

    gradients = torch.func.grad(loss)(parameters, x)
    conv(x).square().sum().backward()
    for name, parameter in conv.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad)
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x[:, None])
    for name, gradient in gradients.items():
        torch.testing.assert_close(each[name].sum(0), gradient)


@pytest.mark.slow
@pytest.mark.parametrize('dynamic', [False, True])
def test_double_backward(dynamic):
    conv = trained(dynamic).double()
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    parameters = tuple(conv.parameters())
    assert torch.autograd.gradgradcheck(lambda x, *_: conv(x), (x, *parameters))


def test_fx_traces_a_static_layer():
    network = nn.Sequential(trained(False), nn.ReLU(), GMConv2d(3, 4, (3, 5)))
    traced = torch.fx.symbolic_trace(network)
    x = torch.randn(2, 2, 7, 7)
    assert torch.equal(traced(x), network(x))
    with torch.no_grad():
        network[0].sigma.mul_(0.5)  # the traced network shares it
    assert torch.equal(traced(x), network(x))


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('dynamic', [False, True])
def test_compiled_in_one_graph_for_every_batch_size(dynamic, training):
    from torch._dynamo.testing import CompileCounter
    torch._dynamo.reset()
    conv, counter = trained(dynamic).train(training), CompileCounter()
    compiled = torch.compile(conv, backend=counter, fullgraph=True)
    for batch in (2, 3, 5, 4, 7):
        x = torch.randn(batch, 2, 6, 6)
        torch.testing.assert_close(compiled(x), conv(x))
    # The first size, then all sizes; torch 2.1 tells sizes below the layer's own from others.
    assert counter.frame_count <= (2 if hasattr(torch.compiler, 'is_compiling') else 3)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(getattr(getattr(torch, 'export', None), 'Dim', None), 'DYNAMIC'),
                    reason='torch.export.Dim.DYNAMIC came with torch 2.6')
@pytest.mark.parametrize('dynamic', [False, True])
def test_exported_for_every_batch_size(dynamic):
    conv = trained(dynamic).eval()
    program = torch.export.export(conv, (torch.randn(2, 2, 6, 6), ),
                                  dynamic_shapes=({0: torch.export.Dim.DYNAMIC}, ))
    for batch in (1, 2, 5):
        x = torch.randn(batch, 2, 6, 6)
        torch.testing.assert_close(program.module()(x), conv(x))


@pytest.mark.parametrize('dynamic', [False, True])
def test_deferred_initialisation(dynamic):
    conv = GMConv2d(2, 3, 3, dynamic=dynamic, init_sigma=2.5, device='meta')
    conv = conv.to_empty(device='cpu')
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.fill_(float('nan'))
    conv.reset_parameters()
    expected = GMConv2d(2, 3, 3, init_sigma=2.5).mask()
    x = torch.randn(1, 2, 5, 5)
    torch.testing.assert_close(conv.mask(x).reshape(3, 3), expected)
    assert conv.mask_is_initial() and torch.isfinite(conv(x)).all()


def takes_assign():
    return 'assign' in inspect.signature(nn.Module.load_state_dict).parameters


@pytest.mark.skipif(not takes_assign(), reason='load_state_dict(assign=True) came with torch 2.1')
@pytest.mark.filterwarnings('ignore:a GMConv layer took plain weights')
@pytest.mark.parametrize('source', ['masked', 'plain'])
@pytest.mark.parametrize('dynamic', [False, True])
def test_a_state_dict_is_assigned_to_a_layer_on_meta(dynamic, source):
    kind = GMConv2d if source == 'masked' else nn.Conv2d
    kwargs = dict(dynamic=dynamic) if source == 'masked' else {}
    original = kind(2, 3, 3, dtype=torch.float64, **kwargs)
    conv = GMConv2d(2, 3, 3, dynamic=dynamic, device='meta')
    conv.load_state_dict(original.state_dict(), assign=True)
    if dynamic:
        assert torch.isfinite(conv.sigma_predictor.w0).all() and conv.sigma_predictor.w0.any()
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    tolerance = dict(rtol=1e-5, atol=1e-5) if source == 'plain' else dict(rtol=0, atol=0)
    torch.testing.assert_close(conv(x), original(x), **tolerance)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_casting_to_half_and_back_loses_no_exponent(dtype):
    conv = GMConv2d(1, 1, 31, init_sigma=4.0)
    expected = conv.mask()
    assert torch.equal(copy.deepcopy(conv).to(dtype).float().mask(), expected)
    half = copy.deepcopy(conv).to(dtype)
    assert torch.equal(half.mask(), expected.to(dtype))
