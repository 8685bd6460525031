"""Time training steps with masks against plain ones, and against the shortest masked layer.

    OMP_NUM_THREADS=1 python tools/dev/bench_layers.py [--rounds 40] [--resnet50-rounds 6]

Variants of one network take turns (plain, masked, ...), and ratios are taken within a round. The
eight-line layer below is the plain expression with nothing around it: what a masked layer must cost.
"""
from __future__ import annotations

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmdet.models.backbones import ResNet

from gmconv_mmdet import GMResNet
from gmconv_mmdet.backbones.cifar_resnet import CifarResNet
from gmconv_mmdet.conversion.swap import spatial_convs, swap
from gmconv_mmdet.lab.benchmark.compare import Timing, compare


class EightLines(nn.Conv2d):
    """``F.conv2d(x, weight * mask)``."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride,
                         conv.padding, bias=False)
        self.sigma = nn.Parameter(torch.tensor([5.0]))
        y, x = ((torch.arange(k) - (k - 1) / 2) ** 2 for k in conv.kernel_size)
        self.register_buffer('squared', y[:, None] + x, persistent=False)

    def forward(self, x):
        mask = torch.exp(-self.squared / (2 * self.sigma ** 2))
        return F.conv2d(x, self.weight * mask, None, self.stride, self.padding)


def resnet20(kind: str) -> nn.Module:
    network = CifarResNet(20)
    if kind == 'S-GM':
        swap(network, spatial_convs(network))
    elif kind == 'eight lines':
        for name in spatial_convs(network):
            parent, _, child = name.rpartition('.')
            setattr(network.get_submodule(parent), child,
                    EightLines(network.get_submodule(name)))
    return network


def step(network: nn.Module, x: torch.Tensor):
    """A training step's call: forward, backward, SGD."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9, weight_decay=1e-4)
    network.train()

    def call() -> None:
        optimizer.zero_grad()
        sum(out.square().mean() for out in network(x)).backward()
        optimizer.step()
    return call


def show(title: str, rows: list[Timing], against: str) -> None:
    print(f'\n{title}')
    for row in rows:
        print(f'  {row.name:12} {1000 * row.seconds:8.1f} ms, ratio to {against} {row.ratio:.3f} '
              f'({row.ratio_low:.3f} to {row.ratio_high:.3f}), {row.rounds} rounds')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=40, help='of ResNet-20')
    parser.add_argument('--resnet50-rounds', type=int, default=6)
    args = parser.parse_args()
    torch.manual_seed(0)
    images = torch.randn(32, 3, 32, 32)
    calls = {kind: step(resnet20(kind), images) for kind in ('eight lines', 'S-GM', 'plain')}
    title = 'ResNet-20, 32 x 3 x 32 x 32, training step'
    show(title, compare(calls, args.rounds, warmup=3), 'eight lines')
    plain_first = {kind: calls[kind] for kind in ('plain', 'S-GM', 'eight lines')}
    show(title, compare(plain_first, args.rounds, warmup=1), 'plain')
    if args.resnet50_rounds:
        images = torch.randn(2, 3, 512, 512)
        networks = {'plain': ResNet(50, frozen_stages=-1, norm_eval=False),
                    'S-GM': GMResNet(50, gm_stem='static', frozen_stages=-1, norm_eval=False),
                    'GM': GMResNet(50, frozen_stages=-1, norm_eval=False)}
        show('ResNet-50, 2 x 3 x 512 x 512, training step',
             compare({name: step(network, images) for name, network in networks.items()},
                     args.resnet50_rounds), 'plain')


if __name__ == '__main__':
    main()
