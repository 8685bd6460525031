"""The work that is timed: a forward pass, a training step, inference."""
from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn as nn
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

WORK = ('forward', 'step', 'inference')
PRECISIONS = ('fp32', 'amp')


class Worker:
    """A network with its input, optimizer and loss, ready to do one kind of work again and again.

    Args:
        model (nn.Module): a backbone, or a detector of mmdet.
        work ('forward' | 'step' | 'inference'): a forward pass that keeps what backward needs;
            that, backward and an SGD step with momentum and weight decay; a forward pass in evaluation
            mode without gradients. A detector's forward passes end in its losses or its boxes.
        batch (int): images.
        size (tuple[int, int]): height and width of the images, in pixels.
        device (torch.device | str): where.
        precision ('fp32' | 'amp'): ``amp`` is fp16 with loss scaling on CUDA and bf16 elsewhere.
        channels_last (bool): memory format of weights and images.
        compiled (bool): through ``torch.compile``; backbones only.
    """

    def __init__(self, model: nn.Module, work: str, batch: int, size: tuple[int, int], *,
                 device: torch.device | str = 'cpu', precision: str = 'fp32',
                 channels_last: bool = False, compiled: bool = False) -> None:
        if work not in WORK or precision not in PRECISIONS:
            raise ValueError(f'work must be one of {WORK} and precision one of {PRECISIONS}, got '
                             f'{work!r}, {precision!r}')
        self.device = torch.device(device)
        self.work = work
        self.half = precision == 'amp'
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.model = model.to(self.device, memory_format=memory_format)
        self.model.train(work != 'inference')  # returns None in some networks of mmdet
        self.is_detector = hasattr(model, 'bbox_head') or hasattr(model, 'roi_head')
        if compiled and self.is_detector:
            raise ValueError('torch.compile is measured for backbones only')
        self.call = torch.compile(self.model) if compiled else self.model
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(batch, 3, *size, generator=generator)
        self.images = images.to(self.device, memory_format=memory_format)
        self.samples = [_sample(size, index, self.device) for index in range(batch)]
        self.optimizer = torch.optim.SGD(
            [p for p in model.parameters() if p.requires_grad], lr=1e-4, momentum=0.9,
            weight_decay=1e-4) if work == 'step' else None
        scaler = getattr(torch.amp, 'GradScaler', torch.cuda.amp.GradScaler)  # before torch 2.3
        self.scaler = scaler(enabled=self.half and self.device.type == 'cuda')

    def __call__(self) -> None:
        """Do the work once."""
        torch.manual_seed(0)  # mmdet's samplers draw: the same boxes each time
        if self.work == 'inference':
            with torch.no_grad(), self._autocast():
                self._detect() if self.is_detector else self.call(self.images)
            return
        with self._autocast():
            loss = self._loss()
        if self.optimizer is None:
            return
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _autocast(self) -> AbstractContextManager:
        dtype = torch.float16 if self.device.type == 'cuda' else torch.bfloat16
        return torch.autocast(self.device.type, dtype) if self.half else nullcontext()

    def _detect(self) -> list[DetDataSample]:
        return self.model(self.images, self.samples, mode='predict')

    def _loss(self) -> Tensor:
        if not self.is_detector:
            return sum(out.float().mean() for out in self.call(self.images))
        losses = self.model(self.images, self.samples, mode='loss')
        return self.model.parse_losses(losses)[0]


def _sample(size: tuple[int, int], index: int, device: torch.device) -> DetDataSample:
    """An image's metadata and eight boxes."""
    height, width = size
    generator = torch.Generator().manual_seed(index)
    corners = torch.rand(8, 2, generator=generator) * 0.5
    sides = 0.1 + torch.rand(8, 2, generator=generator) * 0.4
    boxes = torch.cat([corners, corners + sides], dim=1) * torch.tensor([width, height] * 2)
    sample = DetDataSample(metainfo=dict(
        img_id=index, img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size,
        scale_factor=(1., 1.)))
    sample.gt_instances = InstanceData(
        bboxes=boxes, labels=torch.randint(80, (8, ), generator=generator))
    return sample.to(device)
