"""Trains Table I's networks with all images, and their augmentation, on one device.

The recipes are those of ``configs/cifar`` (arXiv 2302.04544, section IV-A). mmpretrain's own tools
train them too, but at these sizes they wait for images: here a training of 160 epochs takes minutes
on a GPU. Differences: an epoch leaves out the last, partial batch (a CUDA graph has one batch
size), and random numbers are drawn on the device.
"""
from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor

from ..layers import GMConv2d
from .provenance import code_version, environment
from .rows import config_folder

BATCH = 128
_TEST_BATCH = 500
_PADDING = 4
_CHECKPOINT_EPOCHS = 10


class OutOfTime(Exception):
    """The deadline came first; the checkpoint keeps what was done."""


def load_images(path: Path, every: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """The images of a packed file (see :mod:`gmconv_mmdet.datasets.packed_cifar`).

    Args:
        path (Path): the ``.npz`` file.
        every (int): take each ``every``-th image only.
        device: where they go.

    Returns:
        tuple[Tensor, Tensor]: images ``(N, 3, H, W)``, RGB, uint8, and labels ``(N,)``, int64.
    """
    with np.load(path) as packed:
        jpeg, offsets, labels = packed['jpeg'], packed['offsets'], packed['labels']
    images = np.stack([
        cv2.imdecode(jpeg[start:end], cv2.IMREAD_COLOR)[..., ::-1].transpose(2, 0, 1)
        for start, end in zip(offsets[:-1:every], offsets[1::every])])
    return (torch.from_numpy(images).to(device),
            torch.from_numpy(labels[::every].astype(np.int64)).to(device))


def random_crops(padded: Tensor, index: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Random crops of some images, every other one flipped left to right, on their device.

    Args:
        padded (Tensor): all images, ``(N, C, H, W)``.
        index (Tensor): which ones, ``(B,)``.
        size (int): side of the crops.
        generator (torch.Generator): on the device of ``padded``.

    Returns:
        Tensor: ``(B, C, size, size)``, dtype of ``padded``.
    """
    options = dict(device=padded.device, generator=generator)
    batch, (height, width) = len(index), padded.shape[2:]
    top = torch.randint(height - size + 1, (batch, 1), **options)
    left = torch.randint(width - size + 1, (batch, 1), **options)
    flipped = torch.randint(2, (batch, 1), **options).bool()
    cells = torch.arange(size, device=padded.device)
    rows = top + cells  # (B, size)
    columns = left + torch.where(flipped, cells.flip(0), cells)
    channels = torch.arange(padded.shape[1], device=padded.device)
    return padded[index[:, None, None, None], channels[:, None, None], rows[:, None, :, None],
                  columns[:, None, None, :]]


class Training:
    """One network in training.

    Args:
        recipe (Config): of ``configs/cifar``.
        seed (int): of weights, order and augmentation.
        device: where.
        half (bool): fp16 autocast with loss scaling, channels last: not the paper's precision.
        graphed (bool): replay forward and backward as one CUDA graph.
    """

    def __init__(self, recipe: Config, seed: int, device: torch.device | str, half: bool = False,
                 graphed: bool = False) -> None:
        from mmpretrain.registry import MODELS  # optional: only pretraining needs it
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        init_default_scope('mmpretrain')
        self.device = torch.device(device)
        self.half = half
        self.model = MODELS.build(recipe.model)
        self.model.init_weights()
        self.model.to(self.device,
                      memory_format=torch.channels_last if half else torch.contiguous_format)
        options = {**recipe.optim_wrapper.optimizer}
        if options.pop('type') != 'SGD':
            raise ValueError('the recipes of Table I use SGD, this one has '
                             f'{recipe.optim_wrapper.optimizer.type}')
        self.optimizer = torch.optim.SGD(self.model.parameters(), **options)
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(
            self.optimizer, recipe.param_scheduler.milestones, recipe.param_scheduler.gamma)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half)
        shape = (1, 3, 1, 1)
        normalization = recipe.data_preprocessor
        self.mean = torch.tensor(normalization.mean, device=self.device).view(shape)
        self.std = torch.tensor(normalization.std, device=self.device).view(shape)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.graph: torch.cuda.CUDAGraph | None = None
        self._images = self._labels = self._loss = None
        self.graphed = graphed and self.device.type == 'cuda'

    def _inputs(self, images: Tensor) -> Tensor:
        images = (images.float() - self.mean) / self.std
        return images.contiguous(memory_format=torch.channels_last) if self.half else images

    def _logits(self, images: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.float16, enabled=self.half):
            return self.model(images, mode='tensor').float()

    def _backward(self, images: Tensor, labels: Tensor) -> Tensor:
        loss = F.cross_entropy(self._logits(images), labels)
        self.scaler.scale(loss).backward()
        return loss.detach()

    def _capture(self, images: Tensor, labels: Tensor) -> None:
        """Record forward and backward; their gradients stay at their places in memory."""
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        self._images, self._labels = images.clone(), labels.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.optimizer.zero_grad()
                self._backward(self._images, self._labels)
        torch.cuda.current_stream().wait_stream(stream)
        self.optimizer.zero_grad()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._loss = self._backward(self._images, self._labels)
        with torch.no_grad():  # batch norms have seen images in the warm-up
            for name, value in self.model.state_dict().items():
                value.copy_(before[name])
        self.graph = graph

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One step of training on uint8 images ``(B, 3, H, W)``; returns the loss."""
        images = self._inputs(images)
        if self.graphed and self.graph is None:
            self._capture(images, labels)
        if self.graph is not None:
            self._images.copy_(images)
            self._labels.copy_(labels)
            self.graph.replay()
            loss = self._loss.clone()
        else:
            self.optimizer.zero_grad()
            loss = self._backward(images, labels)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss

    def epoch(self, padded: Tensor, labels: Tensor, size: int) -> float:
        """One epoch; returns the mean loss."""
        self.model.train()
        order = torch.randperm(len(labels), device=self.device, generator=self.generator)
        batch = min(BATCH, len(labels))
        losses = [self.step(random_crops(padded, index, size, self.generator), labels[index])
                  for index in order[:len(order) // batch * batch].split(batch)]
        self.schedule.step()
        return float(torch.stack(losses).mean())

    @torch.no_grad()
    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Top-1 accuracy in per cent."""
        self.model.eval()
        right = sum((self._logits(self._inputs(part)).argmax(1) == label).sum()
                    for part, label in zip(images.split(_TEST_BATCH), labels.split(_TEST_BATCH)))
        return 100 * float(right) / len(labels)

    def sigmas(self, images: Tensor) -> dict[str, Any]:
        """Each layer's sigma, in kernel cells; of a dynamic one the mean over images."""
        found = {}
        for name, module in self.model.named_modules():
            if isinstance(module, GMConv2d) and module.mask_parameters():
                name = name.removeprefix('backbone.')
                if module.dynamic:
                    with torch.no_grad():
                        predicted = module.sigma_predictor(self._inputs(images[:_TEST_BATCH]))
                    found[name] = predicted.abs().mean(0).tolist()
                else:
                    found[name] = float(module.sigma.detach().abs())
        return found

    def state(self) -> dict[str, Any]:
        return dict(model=self.model.state_dict(), optimizer=self.optimizer.state_dict(),
                    schedule=self.schedule.state_dict(), scaler=self.scaler.state_dict(),
                    generator=self.generator.get_state())

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state['model'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.schedule.load_state_dict(state['schedule'])
        self.scaler.load_state_dict(state['scaler'])
        self.generator.set_state(state['generator'].cpu())


def train(name: str, data: Path, checkpoint: Path, seed: int = 0, *,
          device: torch.device | str = 'cuda', epochs: int | None = None, every: int = 1,
          half: bool = False, graphed: bool = True, until: float = float('inf'),
          on_epoch: Callable[[str], object] = lambda text: None) -> dict[str, Any]:
    """Train one config to its end.

    Args:
        name (str): of a config in ``configs/cifar``, without ``_cifar10``: ``resnet20-gmconv``.
        data (Path): folder with ``cifar10_{train,test}.npz``.
        checkpoint (Path): written every ten epochs and at the deadline, and gone on from if there.
        seed (int): of everything random.
        device: where.
        epochs (int, optional): fewer than the recipe's; its milestones then move with them.
        every (int): use each ``every``-th image only, of the test set too. For rehearsals.
        half (bool): fp16 instead of the paper's fp32.
        graphed (bool): as a CUDA graph, on CUDA.
        until (float): no epoch begins after this time (``time.time()``).
        on_epoch (Callable[[str], object]): told each epoch's outcome.

    Returns:
        dict: accuracy in per cent, mean loss of each epoch, sigmas, seconds of training, and what
        they come from.

    Raises:
        OutOfTime: the deadline came first. The same call goes on from there.
        FileNotFoundError: no such config, or no data.
    """
    recipe = Config.fromfile(config_folder().parent / 'cifar' / f'{name}_cifar10.py')
    full = recipe.train_cfg.max_epochs
    epochs = full if epochs is None else epochs
    recipe.param_scheduler.milestones = [
        milestone * epochs // full for milestone in recipe.param_scheduler.milestones]
    images, labels = load_images(data / 'cifar10_train.npz', every, device)
    test_images, test_labels = load_images(data / 'cifar10_test.npz', every, device)
    padded = F.pad(images, (_PADDING, ) * 4)
    training = Training(recipe, seed, device, half, graphed)
    losses: list[float] = []
    seconds = 0.
    settings = [name, seed, epochs, every, half]
    if checkpoint.is_file():
        kept = torch.load(checkpoint, map_location='cpu', weights_only=True)
        if kept['settings'] != settings:
            raise ValueError(f'{checkpoint} is of another run: {kept["settings"]}, not {settings}. '
                             'Move it away')
        training.load(kept['state'])
        losses, seconds = kept['losses'], kept['seconds']

    def save() -> None:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        temporary = checkpoint.with_suffix('.part')
        torch.save(dict(settings=settings, state=training.state(), losses=losses,
                        seconds=seconds), temporary)
        temporary.replace(checkpoint)

    for epoch in range(len(losses), epochs):
        if time.time() > until:
            save()
            raise OutOfTime(f'{name}, seed {seed}: {epoch} of {epochs} epochs done in time')
        begun = time.perf_counter()
        losses.append(training.epoch(padded, labels, images.shape[-1]))
        seconds += time.perf_counter() - begun
        on_epoch(f'{name}, seed {seed}: epoch {epoch + 1} of {epochs}, loss {losses[-1]:.3f}, '
                 f'{seconds:.0f} s')
        if (epoch + 1) % _CHECKPOINT_EPOCHS == 0 and epoch + 1 < epochs:
            save()
    result = dict(
        config=f'{name}_cifar10', seed=seed, epochs=epochs, every=every, iterations_per_epoch=max(
            1, len(labels) // BATCH), half=half, graphed=training.graphed, device=str(device),
        accuracy=training.accuracy(test_images, test_labels), losses=losses, seconds=seconds,
        sigmas=training.sigmas(test_images), code=code_version(), environment=environment())
    checkpoint.unlink(missing_ok=True)
    return result
