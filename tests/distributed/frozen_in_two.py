"""Run by torchrun: trains networks with frozen parts in all processes, each on data of its own.

    torchrun --nproc_per_node=2 frozen_in_two.py OUT.json

Writes for each network which parameters changed, and which differ between the processes.
"""
from __future__ import annotations

import json
import sys

import torch
import torch.distributed as dist
import torch.nn as nn
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel

import gmconv_mmdet  # noqa: F401  (registers)
from gmconv_mmdet.backbones import GMBackbone, GMResNet

STEPS = 3


class Network(nn.Module):

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv2d(64, 4, 1)

    def forward(self, images):
        return self.head(self.backbone(images)[-1])


def resnet(**options):
    return GMResNet(18, base_channels=8, zero_init_residual=False, **options)


def frozen(backbone: nn.Module) -> nn.Module:
    return backbone.requires_grad_(False)


NETWORKS = {
    'frozen by the user': lambda: frozen(resnet()),
    'frozen by the user, frozen_stages=1': lambda: frozen(
        resnet(frozen_stages=1, freeze_masks=False)),
    'frozen by the user, GMBackbone': lambda: frozen(GMBackbone(dict(
        type='mmdet.ResNet', depth=18, base_channels=8, frozen_stages=1), freeze_masks=False)),
    'frozen_stages=4': lambda: resnet(frozen_stages=4, freeze_masks=False),
    'frozen_stages=4, freeze_masks=True': lambda: resnet(frozen_stages=4, freeze_masks=True),
}


def train(build) -> dict:
    torch.manual_seed(0)
    network = Network(build())
    # as MMEngine's Runner: wrapped, and given to the optimizer, before weights are initialised
    ddp = MMDistributedDataParallel(network, broadcast_buffers=False)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    network.backbone.init_weights()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    torch.manual_seed(1 + dist.get_rank())
    for _ in range(STEPS):
        ddp.train()
        optimizer.zero_grad()
        ddp(torch.randn(2, 3, 64, 64)).square().mean().backward()
        optimizer.step()
    after = dict(network.named_parameters())
    first = {name: p.detach().clone() for name, p in after.items()}
    for parameter in first.values():
        dist.broadcast(parameter, 0)
    return dict(changed=[n for n, p in after.items() if not torch.equal(p, before[n])],
                differ=[n for n, p in after.items() if not torch.equal(p, first[n])])


def main() -> None:
    dist.init_process_group('gloo')
    MMLogger.get_instance('frozen_in_two', log_level='ERROR')
    results = [None] * dist.get_world_size()
    dist.all_gather_object(results, {name: train(build) for name, build in NETWORKS.items()})
    if dist.get_rank() == 0:
        with open(sys.argv[1], 'w') as file:
            json.dump(results, file, indent=1)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
