"""Edits of single layers: what changes, what stays, what is refused."""
import pytest
import torch
import torch.nn as nn
import torchvision

from gmconv_mmdet import GMConv2d, RefConv2d, edit_layers


def same_as_new(conv, x):
    """Whether an edited convolution computes what one built with its arguments does."""
    built = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride,
                      conv.padding, conv.dilation, conv.groups, conv.bias is not None,
                      conv.padding_mode)
    built.load_state_dict(conv.state_dict())
    return torch.equal(conv(x), built(x))


def test_small_image_stem_of_a_plain_network():
    model = torchvision.models.resnet18(weights=None)
    edited = edit_layers(model, {'conv1': dict(kernel_size=3, stride=1), 'maxpool': None})
    assert model.conv1.kernel_size == (7, 7) and isinstance(model.maxpool, nn.MaxPool2d)
    assert edited.conv1.weight.shape == (64, 3, 3, 3) and edited.conv1.padding == (1, 1)
    before, after = model.state_dict(), edited.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], before[name]) for name in before if name != 'conv1.weight')
    assert edited(torch.randn(1, 3, 32, 32)).shape == (1, 1000)


def test_in_place():
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    weight = model[0].weight
    assert edit_layers(model, {'0': dict(stride=2, dilation=2)}, inplace=True) is model
    assert model[0].weight is weight and model[0].padding == (0, 0)
    assert (model[0].stride, model[0].dilation) == ((2, 2), (2, 2))


@pytest.mark.parametrize('options, values', [
    (dict(padding_mode='reflect', padding=1), dict(padding=(2, 1))),
    (dict(padding_mode='circular', padding=1), dict(kernel_size=5)),
    (dict(padding='same'), dict(kernel_size=(4, 5))),
    (dict(padding='same', padding_mode='reflect'), dict(dilation=2)),
    (dict(padding='valid'), dict(kernel_size=5)), (dict(padding='same'), dict(padding=2)),
    (dict(groups=2), dict(kernel_size=(5, 3), dilation=(1, 2))),
    (dict(bias=False), dict(kernel_size=2, padding=0))])
def test_convolutions_of_every_padding(options, values):
    model = nn.Sequential(nn.Conv2d(4, 4, 3, **options))
    edited, = edit_layers(model, {'0': values})
    assert same_as_new(edited, torch.randn(2, 4, 9, 10))
    assert torch.isfinite(edited.weight).all() and edited.weight.requires_grad


@pytest.mark.parametrize('dynamic', [False, True])
def test_the_mask_follows_the_kernel(dynamic):
    layer = GMConv2d(3, 4, 7, 2, 3, dynamic=dynamic)
    edited, = edit_layers(nn.Sequential(layer), {'0': dict(kernel_size=3)})
    x = torch.randn(1, 3, 8, 8)
    assert edited.mask(x).shape[-2:] == (3, 3)
    edited(x).sum().backward()
    assert edited.weight.grad.shape == (4, 3, 3, 3)


def test_a_shared_layer_stays_shared():
    conv = nn.Conv2d(3, 3, 3, padding=1)
    edited = edit_layers(nn.Sequential(conv, nn.ReLU(), conv), {'0': dict(dilation=2, padding=2)})
    assert edited[0] is edited[2] and edited[2].dilation == (2, 2)


def test_one_dimension_and_three():
    for conv, x in ((nn.Conv1d(2, 2, 3), (1, 2, 9)), (nn.Conv3d(2, 2, 3), (1, 2, 9, 9, 9))):
        edited = edit_layers(nn.Sequential(conv), {'0': dict(kernel_size=5)})
        assert edited(torch.zeros(x)).shape == x


def test_a_pooling_keeps_its_numbers():
    edited, = edit_layers(nn.Sequential(nn.MaxPool2d(3, 2, 1)), {'0': dict(kernel_size=2, stride=2)})
    assert (edited.kernel_size, edited.stride, edited.padding) == (2, 2, 0)
    edited, = edit_layers(nn.Sequential(nn.AvgPool2d(2)), {'0': dict(stride=(1, 2))})
    assert edited(torch.zeros(1, 1, 6, 6)).shape == (1, 1, 5, 3)


def network():
    return nn.ModuleDict(dict(
        conv=nn.Conv2d(3, 4, 3), pool=nn.MaxPool2d(2), norm=nn.BatchNorm2d(4), relu=nn.ReLU(),
        ref=RefConv2d(4, 4, 3),
        normed=nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))))


@pytest.mark.parametrize('edits, message', [
    (dict(conv9=None), "ModuleDict has no layer 'conv9'"), (dict(conv=None), 'only a pooling layer'),
    (dict(relu=None), 'only a pooling layer'), ({'': None}, 'only a pooling layer'),
    (dict(conv=dict(groups=2)), 'no groups'), (dict(pool=dict(out_channels=2)), 'out_channels'),
    (dict(norm=dict(stride=1)), 'no stride'),
    (dict(conv=dict(kernel_size=0)), r'kernel_size of conv is an integer of at least 1.*got 0'),
    (dict(conv=dict(stride=(1, 2, 3))), 'or 2 of them'), (dict(pool=dict(stride=1.5)), 'got 1.5'),
    (dict(conv=dict(padding=-1)), 'at least 0'), (dict(conv=dict(padding='same')), "got 'same'"),
    (dict(ref=dict(kernel_size=5)), 'a form of its own'),
    (dict(normed=dict(kernel_size=5)), 'a form of its own')])
def test_refused(edits, message):
    model = network()
    with pytest.raises(ValueError, match=message):
        edit_layers(model, {'conv': dict(stride=2), **edits}, inplace=True)
    assert model.conv.stride == (1, 1)   # nothing is half done
