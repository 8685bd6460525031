"""Broken configs and arguments of tools; what layers and backbones refuse is tested beside them."""
from __future__ import annotations

from mmdet.registry import MODELS

from .case import REPO, case, tool

DEMO = REPO / 'configs' / 'demo' / 'faster-rcnn_r18-gm_fpn_shapes.py'

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
      refused='no such variant: r51')
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
