"""Count parameters and FLOPs of the models of Tables I and II and print them beside the paper's.

    python tools/analysis_tools/count_cost.py

Needs mmpretrain, no data.
"""
from __future__ import annotations

import argparse

from gmconv_mmdet.lab.benchmark.cost import classifier_cost
from gmconv_mmdet.lab.reproduce.paper import TABLE_I, TABLE_II
from gmconv_mmdet.messages import markdown_table
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


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    lines = []
    for table, results in (('I', TABLE_I), ('II', TABLE_II)):
        for result in results:
            name = CONFIGS[table, result.model].format(METHODS[result.method])
            cost = classifier_cost(shipped(f'configs/{name}.py'), 32 if table == 'I' else 224)
            flops = result.flops_m if table == 'I' else round(1000 * result.flops_g)
            lines.append([table, result.model, result.method, name, f'{result.params_m:.2f}',
                          f'{cost.parameters / 1e6:.6f}', str(flops), f'{cost.flops / 1e6:.1f}'])
    print('\n'.join(markdown_table(['table', 'model', 'method', 'config', 'Params (M), paper', 'here',
                                    'FLOPs (M), paper', 'here'], lines)))


if __name__ == '__main__':
    main()
