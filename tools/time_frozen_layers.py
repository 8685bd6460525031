"""Time what keeping the masked weights of frozen layers saves in training.

    python tools/time_frozen_layers.py [--size H W] [--batch N] [--steps N]

A GMResNet-50 with a static stem and frozen_stages=1, as mmdet trains it: stem and L1 are frozen, 4
masked layers. Kept and computed-anew steps take turns; medians are printed, and the median of their
ratios.
"""
import argparse

import torch

from gmconv_mmdet import GMConv2d, GMResNet
from gmconv_mmdet.benchmark import compare


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
            layer._frozen_product.forget()

    def masked_weights() -> None:
        for layer in layers:
            layer._frozen_product(layer.weight, layer.sigma, layer.mask)

    def step() -> None:
        sum(out.mean() for out in model(image)).backward()

    for label, call, rounds in (
            (f'masked weights of {len(layers)} frozen layers', masked_weights, 20 * args.steps),
            ('training step of the backbone', step, args.steps)):
        anew, kept = compare({'anew': lambda call=call: (forget(), call()), 'kept': call}, rounds)
        print(f'{label}: computed anew {1e3 * anew.seconds:.3f} ms, kept {1e3 * kept.seconds:.3f} '
              f'ms, ratio {kept.ratio:.3f}')


if __name__ == '__main__':
    main()
