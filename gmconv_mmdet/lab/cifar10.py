r"""CIFAR-10 in one file: a whole training with plain, GMConv or RefConv layers, in plain torch.

    python -m gmconv_mmdet.lab.cifar10 train --data FOLDER --variant plain sgm gm --seeds 0 1
    python -m gmconv_mmdet.lab.cifar10 train --data FOLDER --variant refconv plain \
        --warm-start 'work_dirs/cifar10/resnet20-plain-seed{seed}.pth'
    python -m gmconv_mmdet.lab.cifar10 report work_dirs/cifar10/*.json

The recipe is that of Table I of arXiv 2302.04544 (section IV-A): SGD, learning rate 0.1, momentum
0.9, weight decay 1e-4 on everything, batch 128, 160 epochs, learning rate divided by 10 after 80
and 120. A run is one variant with one seed; it leaves RUN.json (what was measured) and RUN.pth (the
network and all that is needed to go on). Killed at any moment, the same command goes on with the
last whole epoch; on a CPU the numbers are those of an undisturbed run. Runs of one seed start from
the same kernels and see the same images in the same order, whatever the variant.

FOLDER has cifar10_{train,test}.npz (JPEG files end to end, see `load`) or CIFAR-10's binary version
(cifar-10-batches-bin), which comes from https://www.cs.toronto.edu/~kriz/cifar.html.
"""
from __future__ import annotations

import argparse
import io
import json
import math
import platform
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from gmconv_mmdet.checkpoints import read_checkpoint
from gmconv_mmdet.conversion import convert_gmconv
from gmconv_mmdet.conversion.find_convs import spatial_convs
from gmconv_mmdet.conversion.swap import swap
from gmconv_mmdet.files import write_text, write_whole
from gmconv_mmdet.layers.find_layers import gm_layers
from gmconv_mmdet.version import __version__

PAPER_EPOCHS, PAPER_DROPS = 160, (80, 120)
LR, MOMENTUM, DECAY, BATCH = 0.1, 0.9, 1e-4, 128
MEAN, STD = (125.307, 122.961, 113.8575), (51.5865, 50.847, 51.255)
VARIANTS = ('plain', 'sgm', 'gm', 'refconv')


# ---- data: all images in memory, augmented there ------------------------------------------------

def load(folder: Path, split: str, every: int = 1) -> tuple[Tensor, Tensor]:
    """Images ``(N, 3, 32, 32)``, RGB, uint8, and labels ``(N,)``, int64, of 'train' or 'test'.

    In the .npz image ``i`` is the JPEG file ``jpeg[offsets[i]:offsets[i + 1]]``, and ``labels[i]``
    its class. Only each ``every``-th image is taken.
    """
    packed = folder / f'cifar10_{split}.npz'
    if packed.is_file():
        with np.load(packed) as content:
            jpeg, offsets, labels = content['jpeg'], content['offsets'], content['labels'][::every]
        images = np.stack([decode(jpeg[begin:end])
                           for begin, end in zip(offsets[:-1:every], offsets[1::every])])
    else:
        # A record is the label's byte, then 1024 bytes of red, of green and of blue.
        names = ['test_batch'] if split == 'test' else [f'data_batch_{i}' for i in range(1, 6)]
        inner = folder / 'cifar-10-batches-bin'
        files = [(inner if inner.is_dir() else folder) / f'{name}.bin' for name in names]
        missing = [str(file) for file in files if not file.is_file()]
        if missing:
            raise SystemExit(f'{folder} must hold cifar10_train.npz and cifar10_test.npz, or the '
                             'binary version of CIFAR-10 (cifar-10-batches-bin; not the Python '
                             f'version, whose pickles can run code): {missing[0]} is missing')
        records = np.concatenate([np.fromfile(file, np.uint8).reshape(-1, 3073) for file in files])
        records = records[::every]
        labels, images = records[:, 0], records[:, 1:].reshape(-1, 3, 32, 32)
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def decode(jpeg: np.ndarray) -> np.ndarray:
    """A JPEG file as ``(3, H, W)``, RGB, with OpenCV or else Pillow."""
    try:
        import cv2
        return cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1].transpose(2, 0, 1)
    except ImportError:
        from PIL import Image
        return np.asarray(Image.open(io.BytesIO(jpeg.tobytes())).convert('RGB')).transpose(2, 0, 1)


def normalize(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (MEAN, STD))
    return (images.float() - mean) / std


def batches(images: Tensor, labels: Tensor, generator: torch.Generator):
    """One epoch in random order: images padded by 4, cropped to their size at random, half of them
    mirrored. The random numbers come from the CPU, so that every device sees the same images."""
    count, channels, height, width = images.shape
    order = torch.randperm(count, generator=generator)
    top, left = (torch.randint(9, (count, 1), generator=generator) for _ in range(2))
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    rows, columns = top + torch.arange(height), left + torch.arange(width)
    columns = torch.where(mirrored, columns.flip(1), columns)
    order, rows, columns = (index.to(images.device) for index in (order, rows, columns))
    padded = F.pad(images, (4, 4, 4, 4))
    channel = torch.arange(channels, device=images.device)[:, None, None]
    for index, y, x in zip(order.split(BATCH), rows.split(BATCH), columns.split(BATCH)):
        which = index[:, None, None, None]
        crops = padded[which, channel, y[:, None, :, None], x[:, None, None, :]]
        yield normalize(crops), labels[index]


# ---- the network, and how its convolutions become ours ------------------------------------------

class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters ("option A": where the block halves
    the image, every other pixel, and zeros for the new channels)."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.new_channels = stride, channels - inputs

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, 0, self.new_channels))
        return F.relu(out + shortcut)


class ResNet(nn.Module):
    """The thin ResNet of arXiv 1512.03385, section 4.2: depth ``6n + 2``. Its layers are named as
    those of :class:`gmconv_mmdet.backbones.CifarResNet`."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise SystemExit('--depth must be 6n + 2 with n of 1 or more (20, 32, 56), got '
                             f'{depth}')
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        blocks = (depth - 2) // 6
        self.layer1 = self.stage(blocks, 16, 16, 1)
        self.layer2 = self.stage(blocks, 16, 32, 2)
        self.layer3 = self.stage(blocks, 32, 64, 2)
        self.fc = nn.Linear(64, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    @staticmethod
    def stage(blocks: int, inputs: int, channels: int, stride: int) -> nn.Sequential:
        return nn.Sequential(Block(inputs, channels, stride),
                             *(Block(channels, channels, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        # Channels last is the faster layout, on a CPU too.
        x = x.contiguous(memory_format=torch.channels_last)
        x = F.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def convert(network: nn.Module, variant: str, init_sigma: float, trained: bool,
            map_init: str) -> None:
    """Make every convolution of a plain network one of ours, in place.

    'sgm': static masks; 'gm': a dynamic mask in the first one, static ones behind; 'refconv': a map
    over the frozen kernel. Where the kernels are ``trained`` they are divided by the mask, so that
    the network computes what it did.
    """
    if variant == 'refconv':
        swap(network, spatial_convs(network), 'RefConv', trained=True, init=map_init)
        return
    try:
        convert_gmconv(network, 'dynamic' if variant == 'gm' else 'static', preserve=trained,
                       inplace=True, init_sigma=init_sigma)
    except ValueError as error:  # a mask too strong to divide by
        raise SystemExit(f'--init-sigma {init_sigma:g}: {error}') from error


# ---- what moves a sigma -------------------------------------------------------------------------

class Split:
    """Splits the change of some parameters into what weight decay did and what gradients did.

    SGD with momentum is linear in what it is given, ``grad + decay * value``: running it on the two
    terms apart gives two changes whose sum is the parameters' own, up to rounding.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        count = sum(parameter.numel() for parameter in parameters)
        device = parameters[0].device if parameters else 'cpu'
        self.velocity = torch.zeros(2, count, dtype=torch.float64, device=device)
        self.change = torch.zeros_like(self.velocity)

    def step(self, lr: float, decay: float) -> None:
        """To be called between ``backward()`` and the optimizer's step."""
        if self.parameters:
            value, grad = (torch.cat(tensors).double() for tensors in (
                [p.detach().flatten() for p in self.parameters],
                [p.grad.flatten() for p in self.parameters]))
            self.velocity.mul_(MOMENTUM).add_(torch.stack([decay * value, grad]))
            self.change.sub_(lr * self.velocity)


@torch.no_grad()
def read_masks(network: nn.Module, split: Split, images: Tensor) -> dict[str, dict]:
    """Each mask as it is now.

    ``sigma`` in kernel cells (its sign means nothing; a dynamic layer's are s1 and s2, means over
    ``images``). ``decay`` and ``gradient`` add up with the initial value to sigma, or in a dynamic
    layer to its predictor's bias ``b1``. ``sum`` and ``min`` of the mask's entries: a flat 3x3 mask
    has 9 and 1, one that passes the centre only 1 and 0.
    """
    found, at = {}, 0
    for name, layer in gm_layers(network).items():
        learned = layer.sigma_predictor.b1 if layer.dynamic else layer.sigma
        decay, gradient = split.change[:, at:at + learned.numel()]
        at += learned.numel()
        entry = dict(sigma=learned, decay=decay, gradient=gradient)
        if layer.dynamic:
            entry.update(b1=learned, sigma=layer.sigma_predictor(images).abs().mean(0))
        mask = layer.mask(images).mean(0) if layer.dynamic else layer.mask()
        entry.update(sum=mask.sum(), min=mask.min())
        found[name] = {key: round_off(value) for key, value in entry.items()}
    return found


def round_off(value: Tensor) -> float | list[float]:
    numbers = [float(f'{number:.7g}') for number in value.flatten().tolist()]
    return numbers[0] if len(numbers) == 1 else numbers


# ---- training -----------------------------------------------------------------------------------

def build(args: argparse.Namespace, variant: str, seed: int) -> nn.Module:
    """The network at the start of a run."""
    torch.manual_seed(seed)
    network = ResNet(args.depth)
    if args.warm_start:
        path = Path(args.warm_start.replace('{seed}', str(seed)))
        if not path.is_file():
            raise SystemExit(f'--warm-start: there is no file {path}')
        start = read_checkpoint(path)
        if (start['settings']['variant'], start['settings']['depth']) != ('plain', args.depth):
            raise SystemExit(f'--warm-start needs a plain ResNet-{args.depth} of this program; '
                             f'{path} has {start["settings"]}')
        network.load_state_dict(start['model'])
    if variant != 'plain':
        convert(network, variant, args.init_sigma, bool(args.warm_start), args.map_init)
    return network.to(args.device, memory_format=torch.channels_last)


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Per cent of the images whose class is found."""
    network.eval()
    right = sum((network(normalize(part)).argmax(1) == label).sum()
                for part, label in zip(images.split(500), labels.split(500)))
    return 100 * float(right) / len(labels)


def train(args: argparse.Namespace, variant: str, seed: int, data: dict) -> bool:
    """One run, or the rest of it. Returns whether it came to its end."""
    settings, name = describe(args, variant, seed)
    checkpoint, results = args.out / f'{name}.pth', args.out / f'{name}.json'
    network = build(args, variant, seed)
    images, labels = data['train']
    test_images, test_labels = data['test']

    layers = gm_layers(network).values()
    ours = [p for layer in layers for p in layer.mask_parameters()]
    others = [p for p in network.parameters() if all(p is not mask for mask in ours)]
    mask_decay = DECAY if args.mask_decay else 0.0
    groups = [dict(params=others, weight_decay=DECAY)]
    if ours:
        groups.append(dict(params=ours, weight_decay=mask_decay))
    optimizer = torch.optim.SGD(groups, lr=LR, momentum=MOMENTUM)
    split = Split([layer.sigma_predictor.b1 if layer.dynamic else layer.sigma for layer in layers])
    history: list[dict] = []

    if checkpoint.is_file():  # go on
        kept = read_checkpoint(checkpoint, args.device)
        if kept['settings'] != settings:
            raise SystemExit(f'{checkpoint} is of another run, with {kept["settings"]} instead of '
                             f'{settings}: move it away, or choose another --out')
        network.load_state_dict(kept['model'])
        optimizer.load_state_dict(kept['optimizer'])
        split.velocity, split.change = kept['velocity'], kept['change']
        history = kept['history']
        write_results(results, settings, history)
    drops = [args.epochs * drop // PAPER_EPOCHS for drop in PAPER_DROPS]

    for epoch in range(len(history), args.epochs):
        begun = time.time()
        lr = LR * 0.1 ** sum(epoch >= drop for drop in drops)
        for group, factor in zip(optimizer.param_groups, (1.0, args.mask_lr_factor)):
            group['lr'] = lr * factor
        # No state of random numbers to keep: an epoch's come from the seed and its number.
        generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
        network.train()
        losses = []
        for x, y in batches(images, labels, generator):
            with torch.autocast(x.device.type, torch.bfloat16, enabled=args.amp):
                logits = network(x)
            loss = F.cross_entropy(logits.float(), y)
            optimizer.zero_grad()
            loss.backward()
            split.step(lr * args.mask_lr_factor, mask_decay)
            optimizer.step()
            losses.append(loss.detach())
        mean_loss = float(torch.stack(losses).mean())
        if not math.isfinite(mean_loss):
            print(f'{name} diverged: the loss of epoch {epoch + 1} is {mean_loss}. The run ends '
                  'here, others go on', file=sys.stderr)
            return False
        entry = dict(epoch=epoch + 1, lr=lr, loss=mean_loss, seconds=round(time.time() - begun, 2),
                     accuracy=accuracy(network, test_images, test_labels),
                     masks=read_masks(network, split, normalize(test_images[:500])))
        history.append(entry)
        state = dict(settings=settings, model=network.state_dict(), velocity=split.velocity,
                     change=split.change, optimizer=optimizer.state_dict(), history=history)
        write_whole(checkpoint, partial(torch.save, state))
        print(f'{name}: epoch {epoch + 1} of {args.epochs}, lr {lr:g}, loss {mean_loss:.4f}, '
              f'accuracy {entry["accuracy"]:.2f} %, {entry["seconds"]:.1f} s', flush=True)
        write_results(results, settings, history)
    return True


def write_results(path: Path, settings: dict, history: list[dict]) -> None:
    """The JSON of a run: a list of numbers, one an epoch, under each name."""
    scalars = {key: [entry[key] for entry in history]
               for key in ('epoch', 'lr', 'loss', 'accuracy', 'seconds')}
    masks = {layer: {key: [entry['masks'][layer][key] for entry in history] for key in now}
             for layer, now in history[-1]['masks'].items()}
    content = dict(settings=settings, finished=len(history) == settings['epochs'],
                   schedule_factor=settings['epochs'] / PAPER_EPOCHS, versions=versions(settings),
                   **scalars, masks=masks)
    write_text(path, json.dumps(content) + '\n')


def versions(settings: dict) -> dict[str, object]:
    try:
        commit = subprocess.run(['git', '-C', str(Path(__file__).parent), 'rev-parse', 'HEAD'],
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                text=True).stdout.strip()
    except OSError:  # no git
        commit = ''
    on_gpu = settings['device'].startswith('cuda')
    return dict(torch=torch.__version__, python=platform.python_version(), gmconv_mmdet=__version__,
                commit=commit, threads=torch.get_num_threads(),
                machine=torch.cuda.get_device_name() if on_gpu else platform.machine())


def describe(args: argparse.Namespace, variant: str, seed: int) -> tuple[dict, str]:
    """All that a run's numbers depend on, and its name, in which what is not the default shows."""
    masks = variant in ('sgm', 'gm')
    settings = dict(depth=args.depth, variant=variant, seed=seed, epochs=args.epochs,
                    every=args.every, amp=args.amp, device=args.device)
    options = [(f'{args.epochs}e', args.epochs != PAPER_EPOCHS), ('amp', args.amp),
               (f'every{args.every}', args.every > 1), ('warm', bool(args.warm_start))]
    if args.warm_start:
        settings.update(warm_start=Path(args.warm_start.replace('{seed}', str(seed))).name)
    if masks:
        settings.update(init_sigma=args.init_sigma, mask_decay=args.mask_decay,
                        mask_lr_factor=args.mask_lr_factor)
        options += [(f'sigma{args.init_sigma:g}', args.init_sigma != 5),
                    ('nodecay', not args.mask_decay),
                    (f'masklr{args.mask_lr_factor:g}', args.mask_lr_factor != 1)]
    if variant == 'refconv':
        settings.update(map_init=args.map_init)
        options += [(args.map_init, args.map_init != 'paper')]
    words = [f'resnet{args.depth}', variant, *(word for word, shown in options if shown)]
    return settings, '-'.join([*words, f'seed{seed}'])


# ---- the command line ---------------------------------------------------------------------------

def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m gmconv_mmdet.lab.cifar10', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', metavar='train | report')
    commands.required = True
    run = commands.add_parser('train', help='train, or go on with, one run a variant and seed')
    run.add_argument('--data', type=Path, required=True, metavar='FOLDER')
    run.add_argument('--out', type=Path, default=Path('work_dirs/cifar10'))
    run.add_argument('--variant', nargs='+', choices=VARIANTS, default=['plain', 'sgm', 'gm'])
    run.add_argument('--seeds', nargs='+', type=int, default=[0], metavar='SEED')
    run.add_argument('--depth', type=int, default=20, help='20, 32, 56 (default: %(default)s)')
    run.add_argument('--epochs', type=int, default=PAPER_EPOCHS,
                     help='the paper\'s schedule is scaled to it (default: %(default)s)')
    run.add_argument('--warm-start', metavar='RUN.pth',
                     help='start from a plain network of this program; {seed} stands for the seed')
    run.add_argument('--map-init', choices=('paper', 'identity'), default='paper',
                     help='of refconv (default: %(default)s)')
    run.add_argument('--init-sigma', type=float, default=5.0, help='default: %(default)s')
    run.add_argument('--mask-lr-factor', type=float, default=1.0,
                     help='on the learning rate of masks (default: %(default)s)')
    run.add_argument('--mask-decay', dest='mask_decay', action='store_true', default=True,
                     help='weight decay on masks, as in the paper (the default)')
    run.add_argument('--no-mask-decay', dest='mask_decay', action='store_false')
    run.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    run.add_argument('--amp', action='store_true', help='bf16 autocast; the paper has fp32')
    run.add_argument('--threads', type=int, default=1, help='of the CPU (default: %(default)s)')
    run.add_argument('--every', type=int, default=1, help='use each N-th image only, for a trial')
    tables = commands.add_parser('report', help='print the tables of finished runs')
    tables.add_argument('json', type=Path, nargs='+')
    tables.add_argument('--by', choices=('layer', 'stage'), default='layer',
                        help='masks: a table a variant, or a line (default: %(default)s)')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    if args.command == 'report':
        from .cifar10_report import report
        print(report(args.json, args.by))
        return 0
    if 'refconv' in args.variant and not args.warm_start:
        raise SystemExit('--variant refconv trains on top of a trained plain network: name its '
                         'checkpoint with --warm-start (the .pth of a run with --variant plain)')
    if args.epochs < 1 or args.every < 1:
        raise SystemExit('--epochs and --every must be 1 or more, got '
                         f'{args.epochs} and {args.every}')
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    drops = ' and '.join(str(args.epochs * drop // PAPER_EPOCHS) for drop in PAPER_DROPS)
    print(f'schedule: {args.epochs} epochs, {args.epochs / PAPER_EPOCHS:.3g} of the paper\'s '
          f'{PAPER_EPOCHS}; learning rate {LR:g}, divided by 10 after {drops}', flush=True)
    data = {split: tuple(tensor.to(args.device) for tensor in load(args.data, split, args.every))
            for split in ('train', 'test')}
    ended = [train(args, variant, seed, data) for seed in args.seeds for variant in args.variant]
    return 0 if all(ended) else 1


if __name__ == '__main__':
    sys.exit(main())
