"""Broken configs and arguments: of layers and backbones, and as files."""
from __future__ import annotations

from collections.abc import Callable

import torch
from mmdet.registry import MODELS

from gmconv_mmdet import GMBackbone, GMConv2d, GMResNet, SigmaLogHook, gaussian_mask
from gmconv_mmdet.hooks import DivergenceHook
from gmconv_mmdet.layers import SigmaPredictor

from .case import REPO, case, tool

DEMO = REPO / 'configs' / 'demo' / 'faster-rcnn_r18-gm_fpn_shapes.py'
RESNET = dict(type='ResNet', depth=18, base_channels=4)
DCN = dict(dcn=dict(type='DCNv2'), stage_with_dcn=(False, True, True, True))

ARGUMENTS: dict[str, list[tuple[str, Callable[[], object], str]]] = {
    '`GMResNet(...)`': [
        ('depth 42', lambda: GMResNet(42), 'depth must be one of'),
        ('depth as text', lambda: GMResNet('50'), "depth must be one of.*got '50'"),
        ('an unknown kind of stem', lambda: GMResNet(18, gm_stem='elliptic'),
         'gm_stem must be one'),
        ('three stages instead of four', lambda: GMResNet(18, gm_stages=(True, ) * 3),
         'gm_stages must be num_stages = 4 times'),
        ('stages as text', lambda: GMResNet(18, gm_stages='TTTT'), 'gm_stages must be'),
        ('stages as numbers', lambda: GMResNet(18, gm_stages=(1, 1, 0, 0)), 'gm_stages must be'),
        ('a stage with GMConv and DCN', lambda: GMResNet(50, base_channels=4, **DCN),
         'GMConv or DCN, not both: L2, L3, L4.*gm_stages='),
        ('DCN in a ResNet-18', lambda: GMResNet(18, gm_stages=(True, False, False, False), **DCN),
         'dcn needs depth 50'),
        ('a conv_cfg', lambda: GMResNet(18, conv_cfg=dict(type='GMConv')), 'conv_cfg must be None'),
        ('an unknown freeze_masks', lambda: GMResNet(18, freeze_masks='no'),
         'freeze_masks must be'),
        ('"dynamic" in gm_cfg', lambda: GMResNet(18, gm_cfg=dict(dynamic=True)),
         'gm_cfg must not hold'),
        ('sigma 0 in gm_cfg', lambda: GMResNet(18, base_channels=4, gm_cfg=dict(init_sigma=0)),
         'init_sigma must be a positive finite number, got 0'),
        ('seven stages', lambda: GMResNet(18, num_stages=7, gm_stages=(True, ) * 7), 'num_stages'),
        ('a misspelt argument', lambda: GMResNet(18, gm_stag=(True, ) * 4), 'gm_stag'),
    ],
    '`GMConv2d(...)`': [
        ('sigma as text', lambda: GMConv2d(3, 3, 3, init_sigma='5'), "init_sigma.*got '5'"),
        ('sigma NaN', lambda: GMConv2d(3, 3, 3, init_sigma=float('nan')), 'init_sigma.*got nan'),
        ('sigma negative', lambda: GMConv2d(3, 3, 3, init_sigma=-1), 'init_sigma.*got -1'),
        ('dynamic as text', lambda: GMConv2d(3, 3, 3, dynamic='yes'), 'True or False'),
        ('an unknown pattern', lambda: GMConv2d(3, 3, 3, dynamic=True, sigma_pattern='xy'),
         'sigma_pattern must be one of'),
        ('a reduction that leaves nothing', lambda: GMConv2d(3, 3, 3, dynamic=True, reduction=99),
         'no hidden unit is left'),
        ('a dynamic mask without input', lambda: GMConv2d(3, 3, 3, dynamic=True).mask(),
         'depends on its input'),
    ],
    '`gaussian_mask(...)`': [
        ('whole numbers as sigma', lambda: gaussian_mask((3, 3), torch.ones(1, dtype=torch.int64)),
         'sigma must be a floating tensor'),
        ('three sigmas', lambda: gaussian_mask((3, 3), torch.ones(3)), 'shape'),
    ],
    '`SigmaPredictor(...)`': [
        ('reduction 0', lambda: SigmaPredictor(3, reduction=0), 'reduction must be a positive'),
    ],
    '`GMBackbone(...)`': [
        ('an unknown body', lambda: GMBackbone(RESNET, gm_body='all'), 'gm_body must be one of'),
        ('modules that are not there', lambda: GMBackbone(RESNET, gm_body=['layer9']),
         "no convolution larger than 1x1 in 'layer9', but in"),
        ('init_cfg twice', lambda: GMBackbone(dict(RESNET, init_cfg=[]), init_cfg=[]),
         'init_cfg is given twice'),
    ],
    'hooks': [
        ('an interval as text', lambda: SigmaLogHook(interval='50'), 'whole number of at least 1'),
        ('interval 0', lambda: DivergenceHook(0), 'whole number of at least 1'),
    ],
}
for _given_to, _rows in ARGUMENTS.items():
    for _fault, _call, _says in _rows:
        @case('config', _fault, _given_to, refused=_says)
        def arguments(folder, call=_call):
            return call

FILES = {
    'no such file': (None, 'no config at'),
    'an empty file': ('', 'no "model"'),
    'a Python file with a syntax error': ('model = dict(\n', 'can\'t be read as a config: .*Error'),
    'a Python file that raises': ('x = 1 / 0\n', 'division by zero'),
    'a base that is not there': ('_base_ = ["nowhere.py"]\n', 'can\'t be read as a config'),
    'no model in it': ('x = 1\n', 'no "model"'),
    'a model that is a list': ('model = [1]\n', 'no "model" that is a dictionary'),
    'a model without a backbone': ('model = dict(type="FasterRCNN")\n', 'no model with a backbone'),
    'an unknown kind of backbone': (
        'model = dict(backbone=dict(type="GMResNet_50"))\n', 'can\'t be built.*GMResNet_50'),
    'a backbone without its depth': (
        'custom_imports = dict(imports=["gmconv_mmdet"])\n'
        'model = dict(backbone=dict(type="GMResNet"))\n', 'can\'t be built.*depth'),
    'numbers as text': (
        'model = dict(backbone=dict(type="GMResNet", depth=18, base_channels="64"))\n',
        'can\'t be built'),
    'an import that is not there': (
        'custom_imports = dict(imports=["gmconv_nowhere"], allow_failed_imports=False)\n'
        'model = dict()\n', 'can\'t be read as a config.*gmconv_nowhere'),
}
for _fault, (_text, _says) in FILES.items():
    @case('config', _fault, '`tools/analysis_tools/visualize_masks.py`', refused=_says)
    def config_file(folder, text=_text):
        path = folder / 'a config.py'
        if text is not None:
            path.write_text(text)
        return lambda: tool('analysis_tools/visualize_masks.py', path, '--out', folder / 'out')


@case('config', 'JSON that is cut off', '`tools/analysis_tools/analyze_rf.py`',
      refused='can\'t be read as a config')
def json_config(folder):
    (folder / 'x.json').write_text('{"model": {')
    return lambda: tool('analysis_tools/analyze_rf.py', folder / 'x.json', '--size', 64, 64)


@case('config', 'no test scale and no --size', '`tools/analysis_tools/analyze_rf.py`',
      refused='give --size H W')
def no_size(folder):
    (folder / 'x.py').write_text('model = dict(backbone=dict(type="ResNet", depth=18))\n')
    return lambda: tool('analysis_tools/analyze_rf.py', folder / 'x.py')


@case('config', 'an input of 1x1 pixels', '`tools/analysis_tools/analyze_rf.py`', goes_on='unproductive',
      slow=True)
def tiny_size(folder):
    return lambda: tool('analysis_tools/analyze_rf.py', DEMO, '--size', 1, 1, '--brief')


@case('config', 'a size that is negative', '`tools/analysis_tools/analyze_rf.py`', refused='size')
def negative_size(folder):
    return lambda: tool('analysis_tools/analyze_rf.py', DEMO, '--size', -3, 64)


@case('config', 'an unknown row', '`tools/reproduce.py plan`',
      refused='no such row in Table III: r51')
def unknown_row(folder):
    return lambda: tool('reproduce.py', 'plan', '--table', 'III', '--rows', 'r51', '--work-root',
                        folder / 'work')


@case('config', 'a negative number of GPUs', '`tools/reproduce.py check`', refused='0 or more')
def negative_gpus(folder):
    return lambda: tool('reproduce.py', 'check', '--table', 'III', '--gpus', -1, '--work-root',
                        folder / 'work')


@case('config', 'a number that is none', '`tools/reproduce.py plan`', refused='invalid int value')
def no_number(folder):
    return lambda: tool('reproduce.py', 'plan', '--table', 'III', '--seeds', 'one')


@case('config', 'an unknown kind of layer', '`MODELS.build(...)`', goes_on='is not in the')
def unknown_layer(folder):
    def act():
        try:
            return MODELS.build(dict(type='GaussianConv', in_channels=3))
        except KeyError as error:  # MMEngine's, with the way out in it
            return f'KeyError: {" ".join(str(error).split())}'
    return act


@case('config', 'an average stem without images', '`tools/deployment/fuse.py`',
      refused='needs calibration images')
def no_calibration(folder):
    return lambda: tool('deployment/fuse.py', DEMO, folder / 'x.pth', folder / 'out', '--stem', 'average')


@case('config', 'images asked for of a GPU that is not there', '`tools/analysis_tools/visualize_masks.py`',
      refused='cuda', slow=True)
def no_gpu(folder):
    return lambda: tool('analysis_tools/visualize_masks.py', DEMO, '--out', folder / 'out',
                        '--device', 'cuda:77')


@case('config', 'a device that does not exist', '`tools/analysis_tools/visualize_erf.py`', refused='abacus',
      slow=True)
def no_device(folder):
    from PIL import Image
    Image.new('RGB', (32, 32)).save(folder / 'a.png')
    return lambda: tool('analysis_tools/visualize_erf.py', 'network', DEMO, '--out', folder / 'out',
                        '--images', folder, '--device', 'abacus')
