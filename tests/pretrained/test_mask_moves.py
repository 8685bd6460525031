"""A moved convolution computes what the source did: checked with the layers themselves."""
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gmconv_mmdet import GMConv2d, gaussian_mask
from gmconv_mmdet.checkpoints import CheckpointError
from gmconv_mmdet.pretrained.mask_moves import SourceMask, is_initial, masks_in, move_mask

PATTERNS = ('sigma', 'sigma_pair', 'sigma_ratio')


def layer(kernel, kind, dtype=torch.float64, **options):
    if kind == 'plain':
        return nn.Conv2d(3, 4, kernel, padding=1, dtype=dtype)
    return GMConv2d(3, 4, kernel, padding=1, dtype=dtype, dynamic=kind == 'dynamic', **options)


def train_mask(conv, sigma, follows_input=False):
    """Give a mask values that training might have given it."""
    with torch.no_grad():
        if not isinstance(conv, GMConv2d):
            return
        if conv.sigma is not None:
            conv.sigma.fill_(sigma)
        elif conv.sigma_predictor is not None:
            conv.sigma_predictor.b1.copy_(torch.tensor([sigma, 1.7])[:len(conv.sigma_predictor.b1)])
            if follows_input:
                nn.init.normal_(conv.sigma_predictor.w1, std=0.3)


def source_of(conv, pattern=None):
    return masks_in({f'c.{n}': t for n, t in conv.state_dict().items()}, pattern).get(
        'c', SourceMask())


def moved_to(target, source, pattern=None, preserve=True):
    gm = target if isinstance(target, GMConv2d) else None
    move = move_mask(source.weight.detach(), source_of(source, pattern), gm, 'c', preserve)
    state = target.state_dict()
    state.update(weight=move.weight, bias=source.bias.detach(), **move.mask)
    target.load_state_dict(state)
    return move


@settings(max_examples=80, deadline=None)
@given(kinds=st.tuples(*[st.sampled_from(['plain', 'static', 'dynamic'])] * 2),
       kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
       patterns=st.tuples(*[st.sampled_from(PATTERNS)] * 2),
       sigma=st.floats(0.3, 20), init=st.floats(3, 30), dtype=st.sampled_from([32, 64]))
def test_keeps_the_function_where_it_can_be_kept(kinds, kernel, patterns, sigma, init, dtype):
    torch.manual_seed(0)
    dtype = getattr(torch, f'float{dtype}')
    source = layer(kernel, kinds[0], dtype, **dict(
        sigma_pattern=patterns[0]) if kinds[0] == 'dynamic' else {})
    train_mask(source, sigma)
    target = layer(kernel, kinds[1], dtype, **dict(
        sigma_pattern=patterns[1], init_sigma=init) if kinds[1] == 'dynamic' else
                   dict(init_sigma=init) if kinds[1] == 'static' else {})
    move = moved_to(target, source, patterns[0])
    assert not move.approximated
    x = torch.randn(2, 3, 9, 8, dtype=dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    assert torch.allclose(target(x), source(x), rtol=0, atol=tolerance)


def test_half_precision_divides_by_the_mask_that_the_layer_computes():
    source, target = layer(7, 'plain', torch.bfloat16), layer(7, 'static', torch.bfloat16)
    move = moved_to(target, source)
    assert move.weight.dtype == torch.float32  # rounded once, when it is copied
    effective = (target.weight * target.mask()).float()
    assert torch.allclose(effective, source.weight.float(), rtol=2 ** -7, atol=1e-3)


@pytest.mark.parametrize('pattern', PATTERNS)
def test_dynamic_to_dynamic_keeps_the_predictor(pattern):
    source, target = (layer(5, 'dynamic', sigma_pattern=pattern) for _ in range(2))
    train_mask(source, 4, follows_input=True)
    for known in (pattern, None):
        move = moved_to(target, source, known)
        x = torch.randn(3, 3, 9, 9, dtype=torch.float64)
        assert torch.equal(target(x), source(x)) and not move.approximated


@pytest.mark.parametrize('target', ['plain', 'static', 'sigma', 'sigma_pair'])
def test_says_what_is_approximated(target):
    source = layer(5, 'dynamic')
    train_mask(source, 4, follows_input=True)
    into = layer(5, target) if target in ('plain', 'static') else layer(5, 'dynamic',
                                                                        sigma_pattern=target)
    move = moved_to(into, source, 'sigma_ratio')
    assert move.approximated
    assert 'sigmas 4 and 6.8' in move.note and 'depends on the image' in move.note
    x = torch.randn(1, 3, 9, 9, dtype=torch.float64)
    at_bias = gaussian_mask((5, 5), torch.tensor([4, 4 * 1.7], dtype=torch.float64))
    expected = F.conv2d(x, source.weight * at_bias, source.bias, padding=1)
    assert torch.allclose(into(x), expected, atol=1e-6)  # 1.7 is stored in fp32 above


def test_guards_masks_too_small_to_divide_by():
    narrow = GMConv2d(3, 4, 7, init_sigma=0.5)
    with pytest.raises(CheckpointError, match=r'init_sigma=0.5 .* 7x7 .*Set init_sigma to ([\d.]+) '
                       r'or more, or preserve=False') as error:
        move_mask(torch.ones(4, 3, 7, 7), SourceMask(), narrow, 'conv1')
    enough = float(str(error.value).split('init_sigma to ')[1].split()[0])
    move_mask(torch.ones(4, 3, 7, 7), SourceMask(), GMConv2d(3, 4, 7, init_sigma=enough), 'conv1')
    with pytest.raises(CheckpointError):
        move_mask(torch.ones(4, 3, 7, 7), SourceMask(),
                  GMConv2d(3, 4, 7, init_sigma=enough - 0.2), 'conv1')


def test_is_initial():
    for kind in ('static', 'dynamic'):
        conv = layer(3, kind)
        assert is_initial(conv, move_mask(conv.weight, SourceMask(), conv, 'c').mask)
        train_mask(conv, 4)
        assert not is_initial(conv, move_mask(conv.weight, source_of(conv), conv, 'c').mask)


def test_incomplete_predictor():
    state = {f'c.{n}': t for n, t in layer(3, 'dynamic').state_dict().items()}
    del state['c.sigma_predictor.b1']
    with pytest.raises(CheckpointError, match='mask of c is not complete'):
        masks_in(state)
