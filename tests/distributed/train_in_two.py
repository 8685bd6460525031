"""Run by torchrun: trains networks in all processes, and on rank 0 also alone with the joint batch.

    torchrun --nproc_per_node=2 train_in_two.py OUT.json

Writes for each network the largest differences of loss, gradients and weights over the steps.
In float64, so that differences are of the order in which sums are taken. Batch norms take their
stored statistics (`norm_eval`, as in the detectors' configs); with those of the batch each process
would see its own half: that takes SyncBN, which torch has on GPUs only.
"""
from __future__ import annotations

import copy
import json
import sys

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel

import gmconv_mmdet  # noqa: F401  (registers)
from gmconv_mmdet.backbones import GMResNet, RefConvBackbone
from gmconv_mmdet.conversion.swap import spatial_convs, swap

STEPS = 4
BATCH, SIZE = 2, 40  # images of a process, pixels


class Classifier(nn.Module):
    """A backbone's features, averaged over the image, to ten classes."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.fc = nn.LazyLinear(10)

    def forward(self, images):
        features = [level.mean((2, 3)) for level in self.backbone(images)]
        return self.fc(torch.cat(features, 1))


SMALL = dict(base_channels=8, norm_eval=True, frozen_stages=-1, zero_init_residual=False)


def resnet(depth=18, **options):
    return GMResNet(depth, **{**SMALL, **options})


def all_dynamic(network: nn.Module) -> nn.Module:
    swap(network, spatial_convs(network), dynamic=True)
    return network


DCN = dict(dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
           stage_with_dcn=(False, True, True, True))
NETWORKS = {
    'static': lambda: resnet(gm_stem='static'),
    'dynamic stem': lambda: resnet(),
    'dynamic stem, sigma pair': lambda: resnet(gm_cfg=dict(sigma_pattern='sigma_pair')),
    'dynamic stem and body': lambda: all_dynamic(resnet(gm_stem=None, gm_stages=(False, ) * 4)),
    'DCN hybrid': lambda: resnet(50, gm_stages=(True, False, False, False), **DCN),
    'frozen stem and L1, their masks learn': lambda: resnet(frozen_stages=1, freeze_masks=False),
    'RefConv': lambda: RefConvBackbone(dict(type='ResNet', depth=18, **SMALL)),
    'checkpointed activations': lambda: resnet(with_cp=True),
}


def deform(model: nn.Module) -> None:
    """DCN's offsets and new predictors start at zero, where gradients of much else vanish."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'conv_offset' in name or 'sigma_predictor' in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)
        for name, buffer in model.named_buffers():  # statistics as after a training
            if name.endswith('running_mean'):
                buffer.normal_(0, 0.1)
            elif name.endswith('running_var'):
                buffer.uniform_(0.5, 1.5)


def train(model: nn.Module, images, labels):
    """Losses, and after each step the gradients and the weights."""
    inner = model.module if isinstance(model, MMDistributedDataParallel) else model
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05,
                                momentum=0.9, weight_decay=1e-4)
    history = []
    for batch, targets in zip(images, labels):
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch), targets)
        loss.backward()
        optimizer.step()
        history.append((loss.detach(), {n: p.grad.clone() for n, p in inner.named_parameters()
                                        if p.grad is not None},
                        {n: p.detach().clone() for n, p in inner.named_parameters()}))
    return history


def largest_difference(mine: dict, other: dict) -> float:
    """Relative to each tensor's largest entry, or to 1e-6 where that is smaller."""
    assert mine.keys() == other.keys()
    return max(float((mine[n] - other[n]).abs().max()
                     / other[n].abs().max().clamp(min=1e-6)) for n in mine)


def compare(build) -> dict:
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = Classifier(build())
    model.backbone.init_weights()
    model.double()
    model.backbone.load_state_dict(model.backbone.state_dict())  # RefConv wants a basis loaded
    model(torch.zeros(1, 3, SIZE, SIZE, dtype=torch.double))
    deform(model)
    alone = copy.deepcopy(model)
    images = torch.randn(STEPS, world * BATCH, 3, SIZE, SIZE, dtype=torch.double)
    labels = torch.randint(10, (STEPS, world * BATCH))
    mine = slice(rank * BATCH, (rank + 1) * BATCH)
    ddp = MMDistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=False)
    together = train(ddp, images[:, mine], labels[:, mine])

    losses = [loss.clone() for loss, _, _ in together]
    for loss in losses:
        dist.all_reduce(loss)
    others = [{n: w.clone() for n, w in weights.items()} for _, _, weights in together]
    for weights in others:
        for weight in weights.values():
            dist.broadcast(weight, 0)
    apart = max(largest_difference(weights, first)
                for (_, _, weights), first in zip(together, others))
    result = dict(steps=STEPS, ranks_differ_by=apart)
    if rank == 0:
        joint = train(alone, images, labels)
        ours = [n for n in joint[0][1] if '.sigma' in n or '.convmap' in n]
        result.update(
            loss=max(abs(float(a / world - b)) for a, (b, _, _) in zip(losses, joint)),
            gradients=max(largest_difference(a, b)
                          for (_, a, _), (_, b, _) in zip(together, joint)),
            weights=max(largest_difference(a, b)
                        for (_, _, a), (_, _, b) in zip(together, joint)),
            our_gradients=len(ours),
            vanishing=[n for n in ours if not joint[-1][1][n].abs().max() > 1e-9])
    return result


def main() -> None:
    dist.init_process_group('gloo')
    MMLogger.get_instance('train_in_two', log_level='ERROR')
    results = {name: compare(build) for name, build in NETWORKS.items()}
    apart = [None] * dist.get_world_size()
    dist.all_gather_object(apart, {name: result['ranks_differ_by']
                                   for name, result in results.items()})
    if dist.get_rank() == 0:
        for name, result in results.items():
            result['ranks_differ_by'] = max(rank[name] for rank in apart)
        with open(sys.argv[1], 'w') as file:
            json.dump(results, file, indent=1)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
