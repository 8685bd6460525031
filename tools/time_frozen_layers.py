"""Time what keeping the masked weights of frozen layers saves in training.

    python tools/time_frozen_layers.py [--size H W] [--batch N] [--steps N]

A GMResNet-50 with a static stem and frozen_stages=1, as mmdet trains it: stem and L1 are frozen, 4
masked layers. Kept and computed-anew steps alternate; medians are printed.
"""
import argparse
import statistics
import time

import torch

from gmconv_mmdet import GMConv2d, GMResNet
from gmconv_mmdet.layers.frozen_product import FrozenProduct


def seconds(call) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', type=int, nargs=2, default=(256, 256), metavar=('H', 'W'))
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--steps', type=int, default=10)
    args = parser.parse_args()
    torch.manual_seed(0)
    model = GMResNet(50, gm_stem='static', frozen_stages=1).train()
    layers = [module for module in model.modules()
              if isinstance(module, GMConv2d) and not module.weight.requires_grad]
    image = torch.randn(args.batch, 3, *args.size)

    def forget() -> None:
        for layer in layers:
            layer._frozen_product = FrozenProduct()

    def masked_weights() -> None:
        for layer in layers:
            layer._frozen_product(layer.weight, layer.sigma, layer.mask)

    def step() -> None:
        sum(out.mean() for out in model(image)).backward()

    names = ('computed anew', 'kept')
    times = {(what, name): [] for what in ('weights', 'steps') for name in names}
    for what, call, repetitions in (('weights', masked_weights, 20 * args.steps),
                                    ('steps', step, args.steps)):
        call()
        for _ in range(repetitions):
            for name in names:
                if name == 'computed anew':
                    forget()
                else:
                    masked_weights()
                times[what, name].append(seconds(call))
    for what, label in (('weights', f'masked weights of {len(layers)} frozen layers'),
                        ('steps', 'training step of the backbone')):
        anew, kept = (statistics.median(times[what, name]) * 1e3 for name in names)
        print(f'{label}: computed anew {anew:.3f} ms, kept {kept:.3f} ms, ratio {kept / anew:.3f}')


if __name__ == '__main__':
    main()
