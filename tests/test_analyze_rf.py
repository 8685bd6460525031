"""The command, as a user runs it."""

import json

import pytest

from .processes import run_tool

CONFIG = """
default_scope = 'mmdet'
model = dict(
    type='FasterRCNN', data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
    backbone=dict(type='ResNet', depth=18, base_channels=8),
    neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=5))
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='Resize', scale=(333, 200), keep_ratio=True)]))
"""
BOXES = dict(images=[dict(id=1, width=333, height=200)], categories=[], annotations=[
    dict(id=1, image_id=1, bbox=[0, 0, 20, 20]), dict(id=2, image_id=1, bbox=[0, 0, 300, 190])])


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'net.py').write_text(CONFIG)
    (tmp_path / 'boxes.json').write_text(json.dumps(BOXES))

    return lambda *arguments: run_tool('analysis_tools/analyze_rf.py', *arguments)


@pytest.mark.slow
def test_everything_at_once(run, tmp_path):
    result = run('net.py', '--annotations', 'boxes.json', '--json', 'o.json',
                 '--picture', 'o.png', '--change', 'small-image-stem', '--write-config', 'new.py')
    assert result.returncode == 0, result.stderr
    assert 'input 224 x 352 px' in result.stdout and 'wrote new.py' in result.stdout
    assert 'never changes the theoretical field' in result.stdout
    content = json.loads((tmp_path / 'o.json').read_text())
    assert content['max_size'] == [499, 499] and [r['boxes'] for r in content['levels']] == [
        1, 0, 1, 0, 0]
    assert {a['change'] for a in content['advice']} >= {'as-is', 'small-image-stem'}
    assert (tmp_path / 'o.png').stat().st_size > 1000
    again = run('new.py', '--size', '32', '32', '--brief')
    assert '0 of 28 layers with weights are unproductive' in again.stdout, again.stderr


@pytest.mark.slow
def test_errors_are_one_line(run, tmp_path):
    (tmp_path / 'bare.py').write_text("model = dict(backbone=dict(type='ResNet', depth=18))\n")
    for arguments, message in [
            (('bare.py',), 'give --size H W'),
            (('net.py', '--change', 'x', '--write-config', 'y.py'), "no change 'x'")]:
        result = run(*arguments)
        assert result.returncode == 1 and 'Traceback' not in result.stderr
        assert message in result.stderr.splitlines()[-1]
    assert run('net.py', '--change', 'no-maxpool').returncode == 2
