import pytest
import torch
import torch.nn.functional as F

from gmconv_mmdet.backbones import CifarResNet


def test_parameters_of_he_et_al():
    # 0.27 M and 0.85 M with ten classes (He et al., Table 6; GMConv, Table I)
    for depth, expected in ((20, 269_722), (56, 853_018), (110, 1_727_962)):
        assert sum(p.numel() for p in CifarResNet(depth).parameters()) + 650 == expected


def test_blocks_by_hand():
    torch.manual_seed(0)
    net = CifarResNet(20).eval()
    x = torch.randn(1, 16, 7, 9)
    block = net.layer2[0]
    out = F.relu(F.conv2d(x, block.conv1.weight, stride=2, padding=1) / (1 + 1e-5) ** 0.5)
    out = F.conv2d(out, block.conv2.weight, padding=1) / (1 + 1e-5) ** 0.5
    out[:, :16] += x[:, :, ::2, ::2]
    assert torch.allclose(block(x), F.relu(out), atol=1e-5)


def test_initialisation_and_bad_depth():
    net = CifarResNet(8)
    net.init_weights()
    assert all((p == 1).all() for n, p in net.named_parameters() if 'bn' in n and 'weight' in n)
    for depth in (18, 2, 21):
        with pytest.raises(ValueError, match=f'6n \\+ 2.*got {depth}'):
            CifarResNet(depth)
