"""Convert, train a step, save, load and fold the networks of other libraries; a table of what holds.

    python tools/dev/gate_any_network.py run [--only PATTERN ...]
    python tools/dev/gate_any_network.py page

Networks, of what is installed: every classifier of torchvision, the smallest of each family of timm, the
backbones of mmdet, ultralytics' YOLOv8n and YOLO11n; random weights, on a CPU. Those with fewer than two
convolutions larger than 1x1 are left out. For each: equal outputs after conversion (relative 1e-4), a
finite gradient in every sigma and one step, the state dict saved and loaded, and the weights folded with
random sigmas loaded strictly into the stock network, with equal outputs (relative 1e-5). A run goes on
where it was stopped; `page` writes docs/any_network.md's tables.
"""
from __future__ import annotations

import argparse
import fnmatch
import json
import re
import signal
import sys
import tempfile
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Callable, Iterable

import torch
import torch.nn as nn

from gmconv_mmdet import convert_gmconv, fold_gmconv
from gmconv_mmdet.conversion.find_convs import find_convs
from gmconv_mmdet.layers.find_layers import gm_layers

SIZES = (64, 96, 128, 160, 192, 224, 240, 256, 288, 299)
LIMIT = 300  # seconds of CPU time for a network
PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'any_network.md'
BEGIN, END = '<!-- tools/dev/gate_any_network.py page -->\n', '<!-- end -->\n'


# ---- the networks ---------------------------------------------------------------------------------

def torchvision_networks(known: Iterable[str]) -> dict[str, Callable[[], nn.Module]]:
    import torchvision
    return {f'torchvision/{name}': lambda name=name: torchvision.models.get_model(
                name, weights=None, **(dict(init_weights=True) if name in (
                    'googlenet', 'inception_v3') else {}))
            for name in torchvision.models.list_models(module=torchvision.models)}


def timm_networks(known: Iterable[str]) -> dict[str, Callable[[], nn.Module]]:
    """The smallest of each family: of the names that begin with the same word."""
    import timm
    chosen = [name.partition('/')[2] for name in known if name.startswith('timm/')]
    if not chosen:  # building all of them takes minutes
        smallest: dict[str, tuple[int, str]] = {}
        for name in timm.list_models():
            family = re.split(r'[_\d]', name)[0]
            with torch.device('meta'):
                size = sum(p.numel() for p in timm.create_model(name).parameters())
            smallest[family] = min(smallest.get(family, (10**12, '')), (size, name))
        chosen = [name for _, name in smallest.values()]
    return {f'timm/{name}': lambda name=name: timm.create_model(name) for name in chosen}


def mmdet_networks(known: Iterable[str]) -> dict[str, Callable[[], nn.Module]]:
    from mmdet.models import backbones
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    register_all_modules(init_default_scope=True)
    stages = {f'stage{i + 1}': dict(num_modules=1, num_branches=i + 1, block='BASIC' if i else 'BOTTLENECK',
                                    num_blocks=(2, ) * (i + 1), num_channels=(18, 36, 72, 144)[:i + 1])
              for i in range(4)}
    options = {'ResNet': dict(depth=50), 'ResNetV1d': dict(depth=50),
               'ResNeXt': dict(depth=50, groups=32, base_width=4), 'Res2Net': dict(depth=50),
               'ResNeSt': dict(depth=50), 'RegNet': dict(arch='regnetx_400mf'),
               'SSDVGG': dict(depth=16, with_last_pool=False, ceil_mode=True, out_indices=(3, 4),
                              out_feature_indices=(22, 34)),
               'Darknet': dict(depth=53),
               'TridentResNet': dict(depth=50, num_branch=3, test_branch_idx=1, trident_dilations=(1, 2, 3),
                                     num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2, )),
               'DetectoRS_ResNet': dict(depth=50), 'HourglassNet': dict(num_stacks=1),
               'DetectoRS_ResNeXt': dict(depth=50, groups=32, base_width=4),
               'EfficientNet': dict(arch='b0'), 'HRNet': dict(extra=stages),
               'PyramidVisionTransformer': dict(num_layers=[2, 2, 2, 2]),
               'PyramidVisionTransformerV2': dict(embed_dims=32, num_layers=[2, 2, 2, 2])}
    return {f'mmdet/{name}': lambda name=name: MODELS.build(dict(options.get(name, {}), type=name))
            for name in backbones.__all__}


def ultralytics_networks(known: Iterable[str]) -> dict[str, Callable[[], nn.Module]]:
    from ultralytics.nn.tasks import DetectionModel
    return {f'ultralytics/{name}': lambda name=name: DetectionModel(f'{name}.yaml', verbose=False)
            for name in ('yolov8n', 'yolo11n')}


LIBRARIES = dict(torchvision=torchvision_networks, timm=timm_networks, mmdet=mmdet_networks,
                 ultralytics=ultralytics_networks)


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


def spatial(network: nn.Module) -> dict[str, str]:
    """The convolutions larger than 1x1, and why those can't become GMConv that can't."""
    return {name: why_not for name, why_not in find_convs(network).items() if why_not != '1x1'
            and isinstance(network.get_submodule(name), nn.Conv2d)
            and max(network.get_submodule(name).kernel_size) > 1}


class Failed(Exception):
    pass


def check(ok: bool, what: str) -> None:
    if not ok:
        raise Failed(what)


def settled(network: nn.Module) -> tuple[torch.Tensor, object]:
    """Images, and what the network gives for them once its batch norms have seen them, so that its
    outputs are of a usual size."""
    for size in SIZES:
        x = torch.randn(2, 3, size, size)
        try:
            network.train()
            network(x)
            network.eval()
            return x, network(x)
        except Exception as error:  # too small for its strides, or another size than its own
            problem = error
    raise problem


@torch.no_grad()
def outputs(network: nn.Module, x: torch.Tensor) -> object:
    network.eval()  # mmdet's returns None
    return network(x)


def training_step(network: nn.Module, x: torch.Tensor) -> int:
    """One step; returns the number of layers that the loss doesn't depend on, masks or not."""
    network.train()
    out = [t.float() for t in tensors(network(x)) if t.requires_grad]
    sum(t.square().mean() / t.detach().square().mean().clamp(min=1e-20) for t in out).backward()
    reached = {name: layer for name, layer in gm_layers(network).items() if layer.weight.grad is not None}
    check(bool(reached), 'no GMConv has a gradient')
    masks = {f'{name} {i}': p for name, layer in reached.items()
             for i, p in enumerate(layer.mask_parameters())}
    without = [name for name, p in masks.items() if p.grad is None or not p.grad.isfinite().all()]
    check(not without, f'no finite gradient in {len(without)} of {len(masks)} sigmas: {without[:3]}')
    nn.utils.clip_grad_norm_(network.parameters(), 1)  # random weights can have gradients of any size
    torch.optim.SGD(network.parameters(), lr=1e-3).step()
    network.zero_grad(set_to_none=True)
    return len(gm_layers(network)) - len(reached)


def saved_and_loaded(network: nn.Module) -> dict[str, torch.Tensor]:
    with tempfile.NamedTemporaryFile(suffix='.pth') as file:
        torch.save(network.state_dict(), file.name)
        return torch.load(file.name, weights_only=True, mmap=True)


def gate(build: Callable[[], nn.Module]) -> dict:
    """What holds for one network. Raises :class:`Failed` with what does not.

    At most three copies are held at once: torchvision has a network of 2.6 GB.
    """
    torch.manual_seed(0)
    few = dict(left_out='fewer than two convolutions larger than 1x1')
    try:
        with torch.device('meta'):  # no time spent on the values of a large transformer
            if len(spatial(build())) < 2:
                return few
    except (RuntimeError, NotImplementedError):  # needs values to be built
        pass
    stock = build()
    convs = spatial(stock)
    if len(convs) < 2:
        return few
    if all(convs.values()):
        return dict(left_out='no convolution larger than 1x1 can become GMConv: '
                    + ', '.join(sorted(set(convs.values()))))
    try:
        with torch.no_grad():
            x, y = settled(stock)
    except Exception as error:
        return dict(left_out=f'does not run itself: {type(error).__name__}: {str(error)[:80]}')
    if not all(t.isfinite().all() for t in tensors(y)) or difference(outputs(stock, x), y) > 1e-6:
        return dict(left_out='gives other or no numbers by itself')
    converted = convert_gmconv(stock)
    layers = list(gm_layers(converted))
    check(layers == [name for name, why_not in convs.items() if not why_not], 'not all were converted')
    kept = difference(outputs(converted, x), y)
    check(kept <= 1e-4, f'outputs differ by {kept:.1e} after conversion')
    unreached = training_step(converted, x)
    y = outputs(converted, x)
    state = saved_and_loaded(converted)
    del converted
    another = convert_gmconv(stock)
    another.load_state_dict(state)
    loaded = difference(outputs(another, x), y)
    check(loaded <= 1e-6, f'outputs differ by {loaded:.1e} after save and load')
    del another, state
    static = convert_gmconv(stock, stem='static')
    generator = torch.Generator().manual_seed(0)
    for layer in gm_layers(static).values():  # as a training could have left them
        layer.sigma.data.copy_(torch.rand(1, generator=generator) * 4 + 0.8)
    y = outputs(static, x)
    stock.load_state_dict(fold_gmconv(static, inplace=True).state_dict(), strict=True)
    folded = difference(outputs(stock, x), y)
    check(folded <= 1e-5, f'outputs differ by {folded:.1e} after folding into the stock network')
    return dict(passed=True, size=x.shape[-1], convolutions=len(convs), converted=len(layers),
                unreached=unreached, conversion=kept, folding=folded,
                left=Counter(why_not for why_not in convs.values() if why_not))


def timed_out(*_) -> None:
    raise Failed(f'not done after {LIMIT} seconds')


def written(out: Path, results: dict) -> None:
    out.write_text(json.dumps(results, indent=0, sort_keys=True) + '\n')


def run(out: Path, only: list[str]) -> None:
    results = json.loads(out.read_text()) if out.is_file() else dict(versions={}, networks={})
    networks = results['networks']
    signal.signal(signal.SIGPROF, timed_out)
    for library, listed in LIBRARIES.items():
        try:
            builders = listed(list(networks))
        except ImportError as error:
            print(f'left out: {library} ({error})', file=sys.stderr)
            continue
        results['versions'].update({name: version(name) for name in ('torch', library)})
        for name in builders:
            networks.setdefault(name, None)  # still to be done
        for name, build in sorted(builders.items()):
            if networks[name] is not None or only and not any(
                    fnmatch.fnmatch(name, pattern) for pattern in only):
                continue
            signal.setitimer(signal.ITIMER_PROF, LIMIT)
            try:
                networks[name] = gate(build)
            except Exception as error:
                text = str(error) if isinstance(error, Failed) else f'{type(error).__name__}: {error}'
                networks[name] = dict(passed=False, reason=' '.join(text.split())[:300])
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            print(f'{name}: {networks[name]}', flush=True)
            written(out, results)


def table(results: dict) -> str:
    """The results as Markdown: a row for each library, then why networks did not pass."""
    networks, versions = results['networks'], results['versions']
    lines = ['| library | networks | passed | failed | left out | convolutions > 1x1 in those passed '
             '| converted |',
             '| --- | --- | --- | --- | --- | --- | --- |']
    for library in sorted({name.split('/')[0] for name in networks}):
        own = [result for name, result in networks.items() if result and name.startswith(f'{library}/')]
        passed = [result for result in own if result.get('passed')]
        left_out = sum('left_out' in result for result in own)
        lines.append(f'| {library} {versions[library]} | {len(own)} | {len(passed)} | '
                     f'{len(own) - len(passed) - left_out} | {left_out} | '
                     f'{sum(r["convolutions"] for r in passed)} | {sum(r["converted"] for r in passed)} |')
    passed = {name: result for name, result in networks.items() if result and result.get('passed')}
    worst = {what: max(r[what] for r in passed.values()) for what in ('conversion', 'folding')}
    lines += ['', f'Largest difference after conversion: {worst["conversion"]:.1e}, after folding: '
              f'{worst["folding"]:.1e} (of the largest output). '
              f'Image sizes: {", ".join(map(str, sorted({r["size"] for r in passed.values()})))} pixels; '
              f'torch {versions["torch"]}, random weights, CPU.', '']
    failed = {name: result['reason'] for name, result in networks.items() if result and 'reason' in result}
    lines += [f'* failed: {name}: {reason}' for name, reason in sorted(failed.items())]
    lines += _by_reason('left out', {name: result['left_out'] for name, result in networks.items()
                                     if result and 'left_out' in result})
    lines += _by_reason('passed, with convolutions left as they are', {
        name: ', '.join(sorted(result['left'])) for name, result in passed.items() if result['left']})
    lines += _by_reason('passed, with layers that the output doesn\'t depend on, so without gradients', {
        name: f'{result["unreached"]} of {result["converted"]}' for name, result in passed.items()
        if result['unreached']})
    waiting = [name for name, result in networks.items() if result is None]
    if waiting:
        lines += _by_reason('not run', dict.fromkeys(waiting, 'the run was stopped before'))
    return '\n'.join(lines) + '\n'


def _by_reason(what: str, reasons: dict[str, str], most: int = 3) -> list[str]:
    return [f'* {what}, {reason}: {count} ({", ".join(names[:most])}{", ..." * (count > most)})'
            for reason, count in Counter(reasons.values()).most_common()
            for names in [sorted(name for name, its in reasons.items() if its == reason)]]


def page(out: Path) -> None:
    before, _, rest = PAGE.read_text(encoding='utf-8').partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + table(json.loads(out.read_text())) + END + after, encoding='utf-8')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('command', choices=('run', 'page'))
    parser.add_argument('--out', type=Path, default=PAGE.parent / 'data' / 'any_network.json')
    parser.add_argument('--only', nargs='+', default=[], metavar='PATTERN', help='torchvision/resnet*')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    run(args.out, args.only) if args.command == 'run' else page(args.out)


if __name__ == '__main__':
    main()
