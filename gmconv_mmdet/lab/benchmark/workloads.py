"""The networks that are timed, in variants, and their work: a training step or inference."""
from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn as nn
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

from ...backbones.cifar_resnet import CifarResNet
from ...conversion import convert_gmconv, fold_gmconv
from ...conversion.swap import spatial_convs, swap
from ...openmmlab.mim_files import shipped
from ...visualization.measured_model import randomize

NETWORKS = ('backbone', 'detector', 'resnet20', '7x7', '3x3')
VARIANTS = ('plain', 'S-GM', 'GM', 'DCN', 'GM-DCN', 'RefConv', 'S-GM folded', 'GM folded',
            'RefConv folded', 'S-GM cropped')
WORK = ('step', 'inference')
CROP = 1e-3


def is_folded(variant: str) -> bool:
    """Whether a variant is for inference only."""
    return ' ' in variant


def build_network(network: str, variant: str, sigma: float = 5.0) -> nn.Module:
    """Build a variant with random weights, the same ones in all variants where shapes agree, masks
    from ``sigma``. Everything is trained, batch norms too.

    Networks: ResNet-50, Faster R-CNN with it and FPN, CIFAR-10's ResNet-20, a 7x7 layer (3 to 64
    channels, stride 2), a 3x3 layer (64 to 64). Variants: ``S-GM`` has static masks throughout,
    ``GM`` a dynamic stem and static masks, ``RefConv`` refocused kernels, ``DCN`` deformable L2-L4,
    ``GM-DCN`` those and masks in stem and L1, as in Table V of arXiv 2302.04544; ``folded`` and
    ``cropped`` (by ``CROP``) ones have gone through :func:`fold_gmconv`.
    """
    name = variant.partition(' ')[0]
    if network not in NETWORKS or variant not in VARIANTS or (
            'DCN' in name and network not in ('backbone', 'detector')):
        raise ValueError(f'network must be one of {NETWORKS} and variant one of {VARIANTS}, DCN '
                         f'with backbone and detector only; got {network!r}, {variant!r}')
    torch.manual_seed(0)
    resnet = dict(type='mmdet.ResNet', depth=50, frozen_stages=-1, norm_eval=False)
    if 'DCN' in name:
        resnet.update(dcn=dict(type='DCN', deform_groups=1, fallback_on_stride=False),
                      stage_with_dcn=(False, True, True, True))
    if network == 'backbone':
        model = MODELS.build(resnet)
    elif network == 'detector':
        config = Config.fromfile(shipped('configs/gmconv/faster-rcnn_r50_fpn_1x_coco.py')).model
        config.backbone = resnet
        model = MODELS.build(config)
    elif network == 'resnet20':
        model = CifarResNet(20)
    elif network == '7x7':
        model = nn.Sequential(nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False))
    else:
        model = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, bias=False))
    randomize(model)
    part = getattr(model, 'backbone', model)
    if 'GM' in name:
        convert_gmconv(part, stem='static' if name == 'S-GM' else 'dynamic',
                       body=['layer1'] if 'DCN' in name else 'static', preserve=False, inplace=True,
                       init_sigma=sigma)
    elif name == 'RefConv':
        swap(part, spatial_convs(part), kind='RefConv', trained=True)
    if is_folded(variant):
        model.eval()  # returns None in some networks of mmdet
        fold_gmconv(model, inplace=True, crop=CROP if variant.endswith('cropped') else None)
    return model


def workload(model: nn.Module, work: str, batch: int, size: tuple[int, int], *,
             device: torch.device | str = 'cpu', amp: bool = False, channels_last: bool = False,
             compiled: bool = False) -> tuple[Callable[[], None], torch.optim.Optimizer | None]:
    """A call that does the work once on ``batch`` random images of ``size`` (height, width), and the
    optimizer of a training step.

    A ``'step'`` is forward, backward and SGD with momentum and weight decay, ``'inference'`` a
    forward pass in evaluation mode without gradients; detectors of mmdet end in losses or boxes.
    ``amp`` is fp16 with loss scaling on CUDA, bf16 elsewhere.
    """
    if work not in WORK:
        raise ValueError(f'work must be one of {WORK}, got {work!r}')
    is_detector = hasattr(model, 'backbone')
    if compiled and is_detector:
        raise ValueError('torch.compile is measured for backbones only')
    kind = torch.device(device).type
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    model.to(device, memory_format=memory_format).train(work == 'step')
    network = torch.compile(model) if compiled else model
    torch.manual_seed(0)
    channels = next(m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d))
    images = torch.randn(batch, channels, *size).to(device, memory_format=memory_format)
    inputs = [images, [_sample(size).to(device) for _ in range(batch)]] if is_detector else [images]

    def autocast():
        return torch.autocast(kind, torch.float16 if kind == 'cuda' else torch.bfloat16
                              ) if amp else nullcontext()

    def infer() -> None:
        torch.manual_seed(0)
        with torch.no_grad(), autocast():
            network(*inputs, **dict(mode='predict') if is_detector else {})

    if work == 'inference':
        return infer, None
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4,
                                momentum=0.9, weight_decay=1e-4)
    scaler = getattr(torch.amp, 'GradScaler', torch.cuda.amp.GradScaler)(  # before torch 2.3
        enabled=amp and kind == 'cuda')

    def step() -> None:
        torch.manual_seed(0)  # mmdet's samplers draw: the same boxes each time
        with autocast():
            if is_detector:
                loss = model.parse_losses(network(*inputs, mode='loss'))[0]
            else:
                loss = sum(out.float().mean() for out in network(*inputs))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    return step, optimizer


def held_bytes(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """What a network and its optimizer hold between steps, gradients excluded."""
    state = [value for values in optimizer.state.values() for value in values.values()]
    return sum(tensor.numel() * tensor.element_size()
               for tensor in [*model.parameters(), *model.buffers(), *state]
               if isinstance(tensor, torch.Tensor))


def _sample(size: tuple[int, int]) -> DetDataSample:
    """An image's metadata and eight boxes."""
    height, width = size
    corners = torch.rand(8, 2) * 0.5
    boxes = torch.cat([corners, corners + 0.1 + torch.rand(8, 2) * 0.4], dim=1)
    sample = DetDataSample(metainfo=dict(
        img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size,
        scale_factor=(1., 1.)))
    sample.gt_instances = InstanceData(bboxes=boxes * torch.tensor([width, height] * 2),
                                       labels=torch.randint(80, (8, )))
    return sample
