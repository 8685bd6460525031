"""The commands that draw masks and effective receptive fields, as a user runs them."""
import csv
import json

import cv2
import numpy as np
import pytest

from .processes import run_tool

NET = """
custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)
model = dict(
    type='FasterRCNN', backbone=dict(type='{kind}', depth=18, base_channels=4),
    neck=dict(type='FPN', in_channels=[4, 8, 16, 32], out_channels=32, num_outs=5),
    data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32))
test_dataloader = dict(dataset=dict(
    data_root='{root}', ann_file='boxes.json', data_prefix=dict(img='images/'),
    pipeline=[dict(type='Resize', scale=(96, 96), keep_ratio=True)]))
"""


@pytest.fixture
def folder(tmp_path):
    """Two configs, and a set of eight images, one of them broken, that the configs name."""
    (tmp_path / 'images').mkdir()
    boxes = [[10, 10, 20, 20], [5, 5, 60, 50], [0, 0, 110, 96]]
    for i in range(8):
        cv2.imwrite(str(tmp_path / 'images' / f'{i}.png'),
                    np.random.default_rng(i).integers(0, 255, (100, 120, 3)))
    (tmp_path / 'images' / '5.png').write_bytes(b'broken')
    (tmp_path / 'boxes.json').write_text(json.dumps(dict(
        images=[dict(id=i, file_name=f'{i}.png') for i in range(8)],
        annotations=[dict(id=3 * i + j, image_id=i, bbox=box, area=box[2] * box[3])
                     for i in range(8) for j, box in enumerate(boxes)])))
    for name, kind in (('net_r18', 'ResNet'), ('net_r18-gm', 'GMResNet')):
        (tmp_path / f'{name}.py').write_text(NET.format(kind=kind, root=tmp_path))
    return tmp_path


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return lambda tool, *arguments: run_tool(f'analysis_tools/visualize_{tool}.py', *arguments)


@pytest.mark.slow
def test_masks(run, folder):
    done = run('masks', 'net_r18-gm.py', '--images', 'images', '--out', 'out')
    assert done.returncode == 0, done.stderr
    assert 'random weights; 17 masks' in done.stdout and '5.png: no image' in done.stderr
    assert sorted(p.name for p in (folder / 'out').iterdir()) == [
        'dynamic_sigmas.csv', 'dynamic_sigmas.png', 'masks.csv', 'masks.png']
    done = run('masks', 'net_r18.py', '--out', 'none')
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert 'has no GMConv layer with a mask' in done.stderr and not (folder / 'none').exists()


@pytest.mark.slow
def test_objects_of_the_configs_test_set(run, folder):
    done = run('erf', 'objects', 'net_r18.py', 'net_r18-gm.py', '--out', 'out', '--crop', '65')
    assert done.returncode == 0, done.stderr
    assert 'images/5.png: no image' in done.stdout
    rows = list(csv.DictReader((folder / 'out' / 'erf.csv').open()))
    # A box of 110 x 96 is large, 20 x 20 small: 7 readable images with one of each band.
    assert {(row['map'], row['model'], row['count']) for row in rows} == {
        (f'{kind}/{band}', net, '7') for kind in ('C5', 'P')
        for band in ('small', 'medium', 'large') for net in ('net_r18', 'net_r18-gm')}
    assert {p.name for p in (folder / 'out').glob('*.png')} == {'erf_C5.png', 'erf_P.png'}


@pytest.mark.parametrize('arguments, message', [
    (['network', 'net_r18.py', '--images', 'nowhere'], 'no folder nowhere'),
    (['network', 'net_r18.py', '--outputs', 'C9', '--size', '64'], 'no output C9; it has C2'),
    (['objects', 'net_r18.py', '--crop', '64'], 'crop must be odd'),
    (['objects', 'net_r18.py', '--annotations', 'net_r18.py'], 'is no COCO annotation file'),
    (['network', 'net_r18.py', 'net_r18.py'], 'two models would be called')])
def test_one_line_for_bad_input(run, arguments, message):
    done = run('erf', *arguments, '--out', 'out')
    assert done.returncode == 1 and message in done.stderr and 'Traceback' not in done.stderr
