"""Weights of plain convolutions in masked layers, on every way in."""
import copy
import warnings

import pytest
import torch
import torch.nn as nn
from mmengine.runner import load_checkpoint

from gmconv_mmdet import GMConv2d


def layer(dynamic, **kwargs):
    torch.manual_seed(1)
    conv = GMConv2d(3, 4, 7, padding=3, dynamic=dynamic, init_sigma=3.0, **kwargs)
    with torch.no_grad():  # as if it had learned before
        if dynamic:
            conv.sigma_predictor.w1.normal_()
        else:
            conv.sigma.fill_(0.7)
    return conv


@pytest.mark.parametrize('dynamic', [False, True])
@pytest.mark.parametrize('way', ['strict', 'not strict', 'MMEngine'])
def test_the_function_of_a_plain_convolution_is_kept(dynamic, way, tmp_path):
    plain = nn.Conv2d(3, 4, 7, padding=3)
    network = nn.Sequential(layer(dynamic), nn.ReLU())
    state = nn.Sequential(plain, nn.ReLU()).state_dict()
    before = {name: value.clone() for name, value in state.items()}
    with pytest.warns(UserWarning, match='took plain weights'):
        if way == 'MMEngine':
            torch.save(dict(state_dict=state), tmp_path / 'plain.pth')
            load_checkpoint(network, str(tmp_path / 'plain.pth'), strict=True)
        else:
            missing, unexpected = network.load_state_dict(state, strict=way == 'strict')
            assert not missing and not unexpected
    x = torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(network[0](x), plain(x), rtol=1e-4, atol=1e-5)
    assert network[0].mask_is_initial()
    assert list(state) == list(before)  # the caller's
    assert all(torch.equal(state[name], before[name]) for name in before)


@pytest.mark.parametrize('dynamic', [False, True])
def test_raw_copy_on_request(dynamic):
    conv, plain = layer(dynamic, preserve=False), nn.Conv2d(3, 4, 7)
    kept = copy.deepcopy(conv.state_dict())
    missing, _ = conv.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(conv.weight, plain.weight) and missing
    assert all(torch.equal(conv.state_dict()[name], kept[name]) for name in missing)


@pytest.mark.parametrize('dynamic', [False, True])
def test_masked_state_dicts_are_loaded_as_they_are(dynamic):
    conv, fresh = layer(dynamic), layer(dynamic)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        fresh.load_state_dict(conv.state_dict())
    assert all(torch.equal(value, fresh.state_dict()[name])
               for name, value in conv.state_dict().items())


def test_masks_of_the_other_kind_are_not_plain():
    static, dynamic = layer(False), layer(True)
    for target, source in ((static, dynamic), (dynamic, static)):
        with pytest.raises(RuntimeError, match='Missing key'):
            copy.deepcopy(target).load_state_dict(source.state_dict())
    partial = dynamic.state_dict()
    del partial['sigma_predictor.b1']
    with pytest.raises(RuntimeError, match='sigma_predictor.b1'):
        dynamic.load_state_dict(partial)


def test_a_mask_too_small_to_divide_by_is_an_error():
    conv = GMConv2d(3, 4, 7, init_sigma=0.3)
    with pytest.raises(RuntimeError, match=r'init_sigma=0.3 .* too small .*preserve=False'):
        conv.load_state_dict(nn.Conv2d(3, 4, 7).state_dict())


def test_1x1_and_bare_sigma():
    one = GMConv2d(3, 4, 1)
    one.load_state_dict(nn.Conv2d(3, 4, 1).state_dict())
    conv = layer(False)
    conv.load_state_dict({'sigma': torch.tensor([2.0])}, strict=False)
    assert conv.sigma.item() == 2.0


def test_patterns_of_equal_shapes_are_told_apart():
    pair = GMConv2d(3, 4, 3, dynamic=True, sigma_pattern='sigma_pair')
    ratio = GMConv2d(3, 4, 3, dynamic=True)
    with pytest.raises(RuntimeError, match="predicts 'sigma_pair', this layer 'sigma_ratio'"):
        ratio.load_state_dict(pair.state_dict())
    old = dict(pair.state_dict())  # without metadata, as older checkpoints
    ratio.load_state_dict(old)


def test_raw_pixels_are_warned_of_once_and_do_not_ruin_masks():
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (4, 3, 32, 32)).float()
    conv = GMConv2d(3, 8, 7, dynamic=True)
    with pytest.warns(UserWarning, match=r'far from normalised.*input_scale=64'):
        conv(pixels)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        conv(pixels)
        scaled = GMConv2d(3, 8, 7, dynamic=True, input_scale=60)
        optimizer = torch.optim.SGD(scaled.parameters(), lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            (scaled(pixels / 60) * torch.randn(4, 8, 26, 26)).mean().backward()
            optimizer.step()
        sigmas = scaled.sigma_predictor(pixels)
    assert sigmas.abs().max() < 10 and torch.isfinite(sigmas).all()
    assert 'input_scale=60' in repr(scaled)
