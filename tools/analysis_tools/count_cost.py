"""Count parameters and FLOPs of the models of Tables I and II and print them beside the paper's.

    python tools/analysis_tools/count_cost.py [--refconv]

With --refconv: what RefConv's configs hold in training and folded. Needs mmpretrain, no data.
"""
from __future__ import annotations

import argparse
from math import prod

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS

from gmconv_mmdet import RefConv2d, fold_gmconv
from gmconv_mmdet.lab.benchmark.cost import classifier_cost
from gmconv_mmdet.lab.reproduce.paper import TABLE_I, TABLE_II
from gmconv_mmdet.messages import markdown_table
from gmconv_mmdet.openmmlab.config_file import config_scope, without_weights
from gmconv_mmdet.openmmlab.mim_files import shipped

# The Params column of Table I is that of ten classes for ResNet-20 and 56 and of a hundred for
# ResNet-18 (with ten it has 11.17 M).
CONFIGS = {
    ('I', 'ResNet-20'): 'cifar/resnet20{}_cifar10',
    ('I', 'ResNet-56'): 'cifar/resnet56{}_cifar10',
    ('I', 'ResNet-18'): 'cifar/resnet18{}_cifar100',
    ('II', 'MobileNetV2'): 'pretrain/mobilenet-v2{}_8xb32_in1k',
    ('II', 'ResNet-18'): 'pretrain/resnet18{}_8xb32_in1k',
    ('II', 'ResNet-50'): 'pretrain/resnet50{}_8xb32_in1k',
    ('II', 'AlexNet'): 'pretrain/alexnet{}_8xb32_in1k',
}
METHODS = {'StdConv': '', 'S-GMConv': '-sgmconv', 'GMConv': '-gmconv'}
REFCONV = ('cifar/resnet20-refconv_cifar10', 'pretrain/resnet18-refconv_8xb64_in1k',
           'pretrain/resnet50-refconv_8xb64_in1k', 'pretrain/mobilenet-v2-refconv_8xb64_in1k',
           'refconv/faster-rcnn_r50-refconv_fpn_1x_coco')


def paper_table() -> list[str]:
    lines = []
    for table, results in (('I', TABLE_I), ('II', TABLE_II)):
        for result in results:
            name = CONFIGS[table, result.model].format(METHODS[result.method])
            cost = classifier_cost(shipped(f'configs/{name}.py'), 32 if table == 'I' else 224)
            flops = result.flops_m if table == 'I' else round(1000 * result.flops_g)
            lines.append([table, result.model, result.method, name, f'{result.params_m:.2f}',
                          f'{cost.parameters / 1e6:.6f}', str(flops), f'{cost.flops / 1e6:.1f}'])
    return markdown_table(['table', 'model', 'method', 'config', 'Params (M), paper', 'here',
                           'FLOPs (M), paper', 'here'], lines)


def refconv_table() -> list[str]:
    lines = []
    for name in REFCONV:
        config = Config.fromfile(shipped(f'configs/{name}.py'))
        with config_scope(config):
            model = MODELS.build(ConfigDict(without_weights(config.model)))
        model.train()  # mmdet freezes its stages here
        layers = [layer for layer in model.modules()
                  if isinstance(layer, RefConv2d) and layer.convmap is not None]
        numbers = [sum(p.numel() for p in model.parameters() if p.requires_grad),
                   sum(p.numel() for p in model.parameters() if not p.requires_grad),
                   sum(layer.weight.numel() for layer in layers),
                   sum(p.numel() for p in fold_gmconv(model).parameters()),
                   # In a forward pass, whatever the image and the batch.
                   sum(layer.convmap.weight.numel() * prod(layer.kernel_size) for layer in layers)]
        lines.append([name, str(len(layers)), *(f'{number / 1e6:.3f}' for number in numbers)])
    return markdown_table(
        ['config', 'RefConv layers', 'trained (M)', 'frozen parameters (M)', 'frozen basis (M)',
         'folded (M)', 'multiply-adds of the maps (M)'], lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--refconv', action='store_true', help='RefConv instead of GMConv')
    print('\n'.join(refconv_table() if parser.parse_args().refconv else paper_table()))


if __name__ == '__main__':
    main()
