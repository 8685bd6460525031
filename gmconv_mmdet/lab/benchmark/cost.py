"""Parameters and FLOPs of a classifier, counted as the paper's Tables I and II have them, and what
RefConv adds while a network is trained."""
from __future__ import annotations

from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope

from ...conversion import fold_gmconv
from ...layers import RefConv2d
from ...messages import markdown_table
from ...openmmlab.config_file import config_scope, without_weights
from ...openmmlab.mim_files import shipped
from ..reproduce.paper import TABLE_I, TABLE_II

# The paper's models as configs, and the side of their images in pixels. The Params column of Table
# I is that of ten classes for ResNet-20 and 56 and of a hundred for ResNet-18 (with ten it has
# 11.17 M).
_CONFIGS = {
    ('I', 'ResNet-20'): ('cifar/resnet20{}_cifar10', 32),
    ('I', 'ResNet-56'): ('cifar/resnet56{}_cifar10', 32),
    ('I', 'ResNet-18'): ('cifar/resnet18{}_cifar100', 32),
    ('II', 'MobileNetV2'): ('pretrain/mobilenet-v2{}_8xb32_in1k', 224),
    ('II', 'ResNet-18'): ('pretrain/resnet18{}_8xb32_in1k', 224),
    ('II', 'ResNet-50'): ('pretrain/resnet50{}_8xb32_in1k', 224),
    ('II', 'AlexNet'): ('pretrain/alexnet{}_8xb32_in1k', 224),
}
# RefConv's configs, and the part of each that is built.
_REFOCUSED = ('cifar/resnet20-refconv_cifar10', 'pretrain/resnet18-refconv_8xb64_in1k',
              'pretrain/resnet50-refconv_8xb64_in1k', 'pretrain/mobilenet-v2-refconv_8xb64_in1k',
              'refconv/faster-rcnn_r50-refconv_fpn_1x_coco')
_METHODS = {'StdConv': '', 'S-GMConv': '-sgmconv', 'GMConv': '-gmconv'}


class Cost(NamedTuple):
    """What a network costs."""
    parameters: int
    flops: int


def classifier_cost(config: str | Path | Config, image_size: int) -> Cost:
    """Parameters and FLOPs of the classifier in an mmpretrain config, for one RGB image.

    FLOPs are MMEngine's in training mode: one for each multiply-add of convolutions and linear
    layers, five for each value that a batch norm puts out, one for each value that is pooled. The
    paper doesn't say how it counts. Of the usual ways this one meets all seven of its figures,
    within 1.2% (MobileNetV2: 2.2%); multiply-adds of convolutions and linear layers alone are 3.5%
    below for ResNet-20 and 8% for MobileNetV2. Masking a kernel is not counted, as in the paper.

    Args:
        config (str | Path | Config): with a ``model`` of mmpretrain.
        image_size (int): side of the image in pixels.
    """
    from mmpretrain.registry import MODELS  # optional: only pretraining needs it
    config = Config.fromfile(config) if not isinstance(config, Config) else config
    init_default_scope('mmpretrain')
    model = MODELS.build(config.model).train()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    counter = FlopAnalyzer(model, torch.randn(2, 3, image_size, image_size))
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return Cost(parameters, round(counter.total() / 2))


def cost_table() -> str:
    """Parameters and FLOPs of all lines of Tables I and II beside the paper's, as Markdown."""
    lines = []
    for table, results in (('I', TABLE_I), ('II', TABLE_II)):
        for result in results:
            pattern, image_size = _CONFIGS[table, result.model]
            name = pattern.format(_METHODS[result.method])
            cost = classifier_cost(shipped(f'configs/{name}.py'), image_size)
            flops = result.flops_m if table == 'I' else round(1000 * result.flops_g)
            lines.append([table, result.model, result.method, name, f'{result.params_m:.2f}',
                          f'{cost.parameters / 1e6:.6f}', str(flops), f'{cost.flops / 1e6:.1f}'])
    return '\n'.join(markdown_table(['table', 'model', 'method', 'config', 'Params (M), paper',
                                     'here', 'FLOPs (M), paper', 'here'], lines))


class RefocusedCost(NamedTuple):
    """Numbers that a network with RefConv has to keep."""
    layers: int  # refocused
    trained: int  # parameters with a gradient
    frozen: int  # parameters without: frozen stages
    basis: int  # in the frozen kernels
    folded: int  # parameters of the network that is left
    map_macs: int  # multiply-adds of the maps in a forward pass, whatever the image and the batch


def refocused_cost(config: str | Path) -> RefocusedCost:
    """Count what the whole model of a config holds in training, and folded.

    Args:
        config (str | Path): of mmpretrain or MMDetection; nothing is downloaded.
    """
    config = Config.fromfile(config)
    with config_scope(config):
        model = MODELS.build(ConfigDict(without_weights(config.model)))
    model.train()  # mmdet freezes its stages here
    layers = [layer for layer in model.modules()
              if isinstance(layer, RefConv2d) and layer.convmap is not None]
    counts = {learns: sum(p.numel() for p in model.parameters() if p.requires_grad == learns)
              for learns in (True, False)}
    return RefocusedCost(len(layers), counts[True], counts[False],
                         sum(layer.weight.numel() for layer in layers),
                         sum(p.numel() for p in fold_gmconv(model).parameters()),
                         sum(layer.convmap.weight.numel() * prod(layer.kernel_size)
                             for layer in layers))


def refocused_table() -> str:
    """:class:`RefocusedCost` of RefConv's configs, in millions, as Markdown."""
    lines = []
    for name in _REFOCUSED:
        layers, *numbers = refocused_cost(shipped(f'configs/{name}.py'))
        lines.append([name, str(layers), *(f'{number / 1e6:.3f}' for number in numbers)])
    return '\n'.join(markdown_table(
        ['config', 'RefConv layers', 'trained (M)', 'frozen parameters (M)', 'frozen basis (M)',
         'folded (M)', 'multiply-adds of the maps (M)'], lines))
