"""Broken configs and arguments of tools; what layers and backbones refuse is tested beside them."""
from __future__ import annotations

import pytest

from .outcome import DEMO, assert_goes_on, assert_refused, tool

FILES = {
    'no such file': (None, 'no config at'),
    'an empty file': ('', 'no "model"'),
    'a syntax error': ('model = dict(\n', 'can\'t be read as a config: .*Error'),
    'raises': ('x = 1 / 0\n', 'division by zero'),
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


@pytest.mark.parametrize('fault', FILES)
def test_config_files(fault, tmp_path):
    text, says = FILES[fault]
    path = tmp_path / 'a config.py'
    if text is not None:
        path.write_text(text)
    assert_refused(tmp_path, lambda: tool('analysis_tools/visualize_masks.py', path, '--out',
                                          tmp_path / 'out'), says)


def test_configs_of_another_kind(tmp_path):
    (tmp_path / 'x.json').write_text('{"model": {')
    assert_refused(tmp_path, lambda: tool('analysis_tools/analyze_rf.py', tmp_path / 'x.json', '--size',
                                          64, 64), 'can\'t be read as a config')
    (tmp_path / 'x.py').write_text('model = dict(backbone=dict(type="ResNet", depth=18))\n')
    assert_refused(tmp_path, lambda: tool('analysis_tools/analyze_rf.py', tmp_path / 'x.py'),
                   'give --size H W')  # it has no test scale


@pytest.mark.parametrize('arguments, says', [
    (('analysis_tools/analyze_rf.py', DEMO, '--size', -3, 64), 'size'),
    (('reproduce.py', 'plan', '--table', 'III', '--rows', 'r51', '--work-root', 'OUT'),
     'no such variant: r51'),
    (('reproduce.py', 'check', '--table', 'III', '--gpus', -1, '--work-root', 'OUT'), '0 or more'),
    (('reproduce.py', 'plan', '--table', 'III', '--seeds', 'one'), 'invalid int value'),
    (('deployment/fuse.py', DEMO, 'OUT', 'OUT', '--stem', 'average'), 'needs calibration images'),
    pytest.param(('analysis_tools/visualize_masks.py', DEMO, '--out', 'OUT', '--device', 'cuda:77'),
                 'cuda', marks=pytest.mark.slow)])
def test_arguments(arguments, says, tmp_path):
    arguments = [tmp_path / 'out' if argument == 'OUT' else argument for argument in arguments]
    assert_refused(tmp_path, lambda: tool(*arguments), says)


@pytest.mark.slow
def test_an_input_of_one_pixel(tmp_path):
    assert_goes_on(tmp_path, lambda: tool('analysis_tools/analyze_rf.py', DEMO, '--size', 1, 1, '--brief'),
                   'unproductive')


@pytest.mark.slow
def test_a_device_that_does_not_exist(tmp_path):
    from PIL import Image
    Image.new('RGB', (32, 32)).save(tmp_path / 'a.png')
    assert_refused(tmp_path, lambda: tool(
        'analysis_tools/visualize_erf.py', 'network', DEMO, '--out', tmp_path / 'out', '--images',
        tmp_path, '--device', 'abacus'), 'abacus')
