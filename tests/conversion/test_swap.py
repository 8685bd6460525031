"""Which convolutions a swap reaches, and that the exchange keeps what they were."""
import copy

import pytest
import torch
import torch.nn as nn
from mmcv.cnn.bricks.wrappers import Conv2d as MmcvConv2d
from mmcv.ops import DeformConv2dPack

from gmconv_mmdet import GMConv2d
from gmconv_mmdet.conversion.swap import converted, spatial_convs, swap


class OtherConv(nn.Conv2d):
    """Stands for any convolution that computes something else."""


def network():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), MmcvConv2d(4, 4, (1, 3)),
        nn.Sequential(OtherConv(4, 4, 3), nn.Conv2d(4, 4, 3, groups=4, bias=False)),
        nn.ConvTranspose2d(4, 4, 3))


def test_spatial_convs():
    assert spatial_convs(network()) == ['0', '2', '3.1']
    assert spatial_convs(nn.Sequential(OtherConv(3, 4, 3))) == []
    # the offset branch inside a deformable convolution belongs to it
    assert spatial_convs(nn.Sequential(DeformConv2dPack(4, 4, 3), nn.Conv2d(4, 4, 3))) == ['1']


def test_swap_keeps_parameters_names_and_order():
    net = network().eval()
    net[3][1].weight.requires_grad = False
    before = dict(net.named_parameters())
    names = [name for name, _ in net.named_modules()]
    swap(net, ['0', '3.1'], dynamic=False, init_sigma=3)
    after = dict(net.named_parameters())
    assert [name for name, _ in net.named_modules()] == names
    assert set(after) - set(before) == {'0.sigma', '3.1.sigma'}
    assert all(after[name] is before[name] for name in before)
    assert net[0].sigma.item() == 3 and not net[0].training and net[3][1].bias is None


def test_converted_copies_every_argument():
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2,
                     padding_mode='circular', dtype=torch.float64)
    gmconv = converted(conv, dynamic=False, init_sigma=1e10)
    x = torch.randn(2, 4, 9, 12, dtype=torch.float64)
    assert type(gmconv) is GMConv2d and torch.equal(gmconv(x), conv(x))
    assert torch.equal(copy.deepcopy(gmconv)(x), conv(x))


def test_what_is_no_convolution_is_named():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(ValueError, match='1 is a ReLU and no convolution'):
        swap(net, ['0', '1'])
    assert type(net[0]) is nn.Conv2d
