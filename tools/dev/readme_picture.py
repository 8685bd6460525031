"""Draw docs/images/mask_times_kernel.png: what a GMConv does to a kernel, at three sigmas.

    python tools/dev/readme_picture.py

The kernel is an edge filter made up for the picture; the masks are those of ``gaussian_mask``.
"""
from __future__ import annotations

from pathlib import Path

import matplotlib
import torch

from gmconv_mmdet import gaussian_mask

matplotlib.use('Agg')
from matplotlib import pyplot as plt

PICTURE = Path(__file__).resolve().parents[2] / 'docs' / 'images' / 'mask_times_kernel.png'
SIGMAS = (5.0, 2.0, 1.0)


def edge_kernel(size: int = 7) -> torch.Tensor:
    """A diagonal edge filter, ``(size, size)``, largest entry 1."""
    y, x = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 2, indexing='ij')
    kernel = torch.cos(0.9 * (x + y) + 0.8)
    return kernel / kernel.abs().max()


def main() -> None:
    kernel = edge_kernel()
    figure, axes = plt.subplots(len(SIGMAS), 3, figsize=(4.6, 4.5), facecolor='white')
    titles = ('kernel $W$', 'mask $M$', r'$W \otimes M$')
    for row, sigma in zip(axes, SIGMAS):
        mask = gaussian_mask((7, 7), torch.tensor([sigma]))
        for axis, values, colours in zip(row, (kernel, mask, kernel * mask),
                                         ('RdBu_r', 'viridis', 'RdBu_r')):
            axis.imshow(values, cmap=colours, vmin=0 if colours == 'viridis' else -1, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(rf'$\sigma$ = {sigma:g}', rotation=0, ha='right', va='center', labelpad=8)
        for axis, sign in zip(row[1:], (r'$\otimes$', '=')):
            axis.text(-0.11, 0.5, sign, transform=axis.transAxes, ha='center', va='center', fontsize=15)
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=11)
    figure.subplots_adjust(left=0.14, right=0.98, top=0.93, bottom=0.02, wspace=0.24, hspace=0.08)
    figure.savefig(PICTURE, dpi=150)
    print(f'wrote {PICTURE.relative_to(PICTURE.parents[2])}')


if __name__ == '__main__':
    main()
