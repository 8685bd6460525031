"""Convert, train a step, save, load and fold the networks of other libraries; a table of what holds.

    python tools/dev/gate_any_network.py run --out docs/data/any_network.json [--only PATTERN ...]
    python tools/dev/gate_any_network.py page --out docs/data/any_network.json

Networks: every classifier of torchvision, the smallest of each family of timm, the backbones of mmdet,
and ultralytics' YOLOv8n and YOLO11n, of what is installed; with random weights, on a CPU. Networks
with fewer than two convolutions larger than 1x1 are left out: a vision transformer has but its patches'.
For each: the outputs after conversion (relative difference up to 1e-4), a finite gradient in every
sigma after one step, the state dict loaded into another copy, and the folded network's weights loaded
strictly into the stock one, with equal outputs (relative 1e-5). A run goes on where it was stopped.
"""
from __future__ import annotations

import argparse
import copy
import fnmatch
import json
import re
import signal
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Callable

import torch
import torch.nn as nn

from gmconv_mmdet import convert_gmconv, fold_gmconv
from gmconv_mmdet.layers.find_layers import gm_layers

SIZES = (64, 96, 128, 160, 192, 224, 240, 256, 288, 299)
LIMIT = 300  # seconds for a network


# ---- the networks ---------------------------------------------------------------------------------

def torchvision_networks() -> dict[str, Callable[[], nn.Module]]:
    import torchvision
    names = torchvision.models.list_models(module=torchvision.models)
    quantized = ('quantized_', 'raft', 'swin3d', 'mvit', 's3d', 'mc3', 'r3d', 'r2plus1d')
    return {f'torchvision/{name}': lambda name=name: torchvision.models.get_model(name, weights=None)
            for name in names if not name.startswith(quantized)}


def timm_networks() -> dict[str, Callable[[], nn.Module]]:
    """The smallest of each family: of the names that begin with the same word."""
    import timm
    smallest: dict[str, tuple[int, str]] = {}
    for name in timm.list_models():
        family = re.split(r'[_\d]', name)[0]
        try:
            with torch.device('meta'):
                size = sum(p.numel() for p in timm.create_model(name).parameters())
        except Exception:  # not to be built without values: taken only where nothing else is there
            size = 10**10
        smallest[family] = min(smallest.get(family, (10**12, '')), (size, name))
    return {f'timm/{name}': lambda name=name: timm.create_model(name)
            for _, name in smallest.values()}


def mmdet_networks() -> dict[str, Callable[[], nn.Module]]:
    from mmdet.models import backbones
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    register_all_modules(init_default_scope=True)
    options = {'ResNet': dict(depth=18), 'ResNetV1d': dict(depth=50), 'ResNeXt': dict(depth=50),
               'Res2Net': dict(depth=50), 'ResNeSt': dict(depth=50), 'RegNet': dict(arch='regnetx_400mf'),
               'SSDVGG': dict(depth=16, with_last_pool=False, ceil_mode=True, out_indices=(3, 4),
                              out_feature_indices=(22, 34)),
               'Darknet': dict(depth=53), 'CSPDarknet': dict(), 'CSPNeXt': dict(), 'MobileNetV2': dict(),
               'TridentResNet': dict(depth=50, num_branch=3, test_branch_idx=1, trident_dilations=(1, 2, 3),
                                     num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2, )),
               'DetectoRS_ResNet': dict(depth=50, num_stages=4), 'HourglassNet': dict(num_stacks=1),
               'EfficientNet': dict(arch='b0'), 'HRNet': None, 'DetectoRS_ResNeXt': None}
    return {f'mmdet/{name}': lambda name=name: MODELS.build(dict(type=name, **options[name]))
            for name in backbones.__all__ if options.get(name) is not None}


def ultralytics_networks() -> dict[str, Callable[[], nn.Module]]:
    from ultralytics.nn.tasks import DetectionModel
    return {f'ultralytics/{name}': lambda name=name: DetectionModel(f'{name}.yaml', verbose=False)
            for name in ('yolov8n', 'yolo11n')}


LIBRARIES = (torchvision_networks, timm_networks, mmdet_networks, ultralytics_networks)


# ---- what is asked of each ------------------------------------------------------------------------

def tensors(output) -> list[torch.Tensor]:
    """All floating-point tensors in what a network gives."""
    if isinstance(output, torch.Tensor):
        return [output] if output.is_floating_point() else []
    values = output.values() if isinstance(output, dict) else output if isinstance(
        output, (list, tuple)) else vars(output).values() if hasattr(output, '__dict__') else ()
    return [tensor for value in values for tensor in tensors(value)]


def difference(a, b) -> float:
    """Largest difference of two outputs, each tensor's relative to its largest value."""
    pairs = list(zip(tensors(a), tensors(b)))
    assert pairs and len(tensors(a)) == len(tensors(b)), 'outputs are not alike'
    return max(((x - y).abs().max() / y.abs().max().clamp(min=1e-20)).item() for x, y in pairs)


def convolutions(network: nn.Module) -> int:
    return sum(isinstance(m, nn.Conv2d) and max(m.kernel_size) > 1 for m in network.modules())


class Failed(Exception):
    pass


def check(ok: bool, what: str) -> None:
    if not ok:
        raise Failed(what)


def settled(network: nn.Module, x: torch.Tensor) -> nn.Module:
    """A network whose batch norms have seen something, so that its outputs are of a usual size."""
    with torch.no_grad():
        network.train()
        network(x)
        return network.eval()


def gate(build: Callable[[], nn.Module]) -> dict:
    """What holds for one network. Raises :class:`Failed` with what does not."""
    torch.manual_seed(0)
    network = build()
    if convolutions(network) < 2:
        return dict(left_out='fewer than two convolutions larger than 1x1')
    for size in SIZES:
        x = torch.randn(2, 3, size, size)
        try:
            settled(network, x)
            y = network(x)
            break
        except Exception as error:
            problem = error
    else:
        return dict(left_out=f'does not run itself: {type(problem).__name__}: {str(problem)[:80]}')
    stock = copy.deepcopy(network).eval()
    with torch.no_grad():
        y = stock(x)
        if not all(t.isfinite().all() for t in tensors(y)) or difference(y, stock(x)) > 1e-6:
            return dict(left_out='gives other or no numbers by itself')
        converted = convert_gmconv(network).eval()
        layers = gm_layers(converted)
        check(bool(layers), 'nothing was converted')
        kept = difference(converted(x), y)
    check(kept <= 1e-4, f'outputs differ by {kept:.1e} after conversion')
    converted.train()
    sum(t.float().square().mean() for t in tensors(converted(x)) if t.requires_grad).backward()
    masks = {f'{name}.{i}': p for name, layer in layers.items()
             for i, p in enumerate(layer.mask_parameters())}
    without = [name for name, p in masks.items() if p.grad is None]
    check(not without, f'no gradient in {len(without)} of {len(masks)} sigmas: {without[:3]}')
    check(all(p.grad.isfinite().all() for p in masks.values()), 'a gradient is not finite')
    torch.optim.SGD(converted.parameters(), lr=1e-3).step()
    converted.eval()
    another = convert_gmconv(stock).eval()
    another.load_state_dict(converted.state_dict())
    with torch.no_grad():
        loaded = difference(another(x), converted(x))
        check(loaded <= 1e-6, f'outputs differ by {loaded:.1e} after save and load')
        static = convert_gmconv(stock, stem='static').eval()
        generator = torch.Generator().manual_seed(0)
        for layer in gm_layers(static).values():  # as a training could have left them
            layer.sigma.copy_(torch.rand(1, generator=generator) * 4 + 0.8)
        back = copy.deepcopy(stock)
        back.load_state_dict(fold_gmconv(static).state_dict(), strict=True)
        folded = difference(back(x), static(x))
    check(folded <= 1e-5, f'outputs differ by {folded:.1e} after folding into the stock network')
    return dict(passed=True, size=x.shape[-1], convolutions=convolutions(stock), converted=len(layers),
                difference=kept)


def timed_out(*_) -> None:
    raise Failed(f'not done after {LIMIT} seconds')


def run(out: Path, only: list[str]) -> None:
    results = json.loads(out.read_text()) if out.is_file() else {}
    signal.signal(signal.SIGALRM, timed_out)
    for library in LIBRARIES:
        try:
            networks = library()
        except ImportError as error:
            print(f'left out: {library.__name__} ({error})', file=sys.stderr)
            continue
        for name, build in sorted(networks.items()):
            if name in results or only and not any(fnmatch.fnmatch(name, p) for p in only):
                continue
            begun = time.time()
            signal.alarm(LIMIT)
            try:
                results[name] = gate(build)
            except Exception as error:
                text = str(error) if isinstance(error, Failed) else f'{type(error).__name__}: {error}'
                results[name] = dict(passed=False, reason=' '.join(text.split())[:200])
            finally:
                signal.alarm(0)
            print(f'{name}: {results[name]}, {time.time() - begun:.0f} s', flush=True)
            out.write_text(json.dumps(results, indent=0, sort_keys=True) + '\n')


def page(out: Path) -> None:
    results = json.loads(out.read_text())
    print('| library | networks | passed | failed | left out |\n|---|---|---|---|---|')
    for library in sorted({name.split('/')[0] for name in results}):
        own = [r for name, r in results.items() if name.startswith(f'{library}/')]
        kinds = Counter('left out' if 'left_out' in r else 'passed' if r['passed'] else 'failed'
                        for r in own)
        print(f'| {library} | {len(own)} | {kinds["passed"]} | {kinds["failed"]} | '
              f'{kinds["left out"]} |')
    print()
    for name, result in sorted(results.items()):
        reason = result.get('reason')
        if reason:
            print(f'* {name}: {reason}')
    why = Counter(result['left_out'] for result in results.values() if 'left_out' in result)
    for reason, count in why.most_common():
        names = sorted(name for name, r in results.items() if r.get('left_out') == reason)
        print(f'* left out, {reason} ({count}): {", ".join(names)}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('command', choices=('run', 'page'))
    parser.add_argument('--out', type=Path, default=Path('docs/data/any_network.json'))
    parser.add_argument('--only', nargs='+', default=[], metavar='PATTERN', help='torchvision/resnet*')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    run(args.out, args.only) if args.command == 'run' else page(args.out)


if __name__ == '__main__':
    main()
