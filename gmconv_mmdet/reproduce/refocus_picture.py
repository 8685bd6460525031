"""The curves of :func:`refocus_run`: one plain network, and what becomes of it."""
from __future__ import annotations

from matplotlib.figure import Figure

from .refocus_short_run import FIRST

# Told apart by colour-blind readers too (Okabe & Ito).
_COLOURS = ('#000000', '#0072B2', '#D55E00', '#009E73', '#CC79A7')


def refocus_figure(result: dict) -> Figure:
    """Training loss and test accuracy over the iterations of both phases, the second behind the
    first; a ring around the accuracy of a folded network."""
    figure = Figure(figsize=(10, 4), layout='constrained')
    left, right = figure.subplots(1, 2)
    length = result['runs'][FIRST]['iterations']
    for colour, (title, run) in zip(_COLOURS, result['runs'].items()):
        start = 0 if title == FIRST else length
        per_epoch = run['iterations'] / result['epochs']
        left.plot([start + step for step, _ in run['losses']], [loss for _, loss in run['losses']],
                  color=colour, label=title)
        end = start + run['iterations']
        right.plot([start + epoch * per_epoch for epoch, _ in run['accuracies']],
                   [accuracy for _, accuracy in run['accuracies']], color=colour, marker='.')
        right.plot(end, run['accuracy'], color=colour, marker='D', ms=6, ls='')
        if 'folded' in run:
            right.plot(end, run['folded']['accuracy'], color=colour, marker='o', ms=13, mfc='none',
                       ls='')
    for axes in (left, right):
        axes.axvline(length, color='grey', lw=0.8, ls='--')
        axes.set_xlabel('iterations')
        axes.grid(lw=0.3)
    left.set(ylabel='training loss')
    right.set(ylabel='test accuracy (%)')
    right.plot([], [], 'k.-', label=f'each {result["val_every"]}th test image')
    right.plot([], [], 'kD', ls='', label='all test images')
    right.plot([], [], 'ko', ms=13, mfc='none', ls='', label='all test images, folded')
    for axes in (left, right):
        axes.legend(fontsize=8)
    figure.suptitle(f'CIFAR-10, ResNet-{result["depth"]}, each {result["every"]}th training image, '
                    f'{result["epochs"]} + {result["epochs"]} epochs, one seed', fontsize=10)
    return figure
