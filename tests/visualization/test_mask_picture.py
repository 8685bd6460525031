"""Pictures and tables of masks, from a config with a static, a dynamic and no mask."""
import csv

import cv2
import numpy as np
import pytest
import torch

from gmconv_mmdet.visualization.image_files import image_files, network_input, read_image, resized
from gmconv_mmdet.visualization.mask_picture import mask_figure, write_masks
from gmconv_mmdet.visualization.masks import predicted_sigmas
from gmconv_mmdet.visualization.measured_model import load_model

NET = """
model = dict(type='RetinaNet', backbone=dict(type='{kind}', depth=18, base_channels=4{more}),
             data_preprocessor=dict(type='DetDataPreprocessor', mean=[100] * 3, std=[50.] * 3))
test_dataloader = dict(dataset=dict(pipeline=[dict(type='Resize', scale=(64, 48))]))
"""


SHORT = ', num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,), gm_stages=(True,)'


def model(folder, kind='GMResNet', more=SHORT):
    (folder / 'net.py').write_text(NET.format(kind=kind, more=more))
    loaded = load_model(str(folder / 'net.py'), label='net')
    if kind == 'GMResNet':
        torch.manual_seed(0)
        torch.nn.init.normal_(loaded.network.backbone.conv1.sigma_predictor.w1)
    return loaded


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    for i in range(6):
        cv2.imwrite(str(folder / f'{i}.png'), np.full((40, 30 + i, 3), 40 * i, np.uint8))
    (folder / '3b.png').write_bytes(b'')
    return image_files(folder)


def rows(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_masks_alone(tmp_path):
    masks = write_masks(model(tmp_path), tmp_path / 'out')
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == ['masks.csv', 'masks.png']
    table = rows(tmp_path / 'out' / 'masks.csv')
    assert len(masks) == 5 and [row['layer'] for row in table[5:]] == ['average of L1']
    assert table[0]['mask'] == 'dynamic' and table[0]['images'] == ''


@pytest.mark.slow
def test_dynamic_sigmas_of_images(tmp_path, images, capsys):
    net = model(tmp_path)
    write_masks(net, tmp_path / 'out', images)
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == [
        'dynamic_sigmas.csv', 'dynamic_sigmas.png', 'masks.csv', 'masks.png']
    table = rows(tmp_path / 'out' / 'dynamic_sigmas.csv')
    assert [row['image'] for row in table] == [f'{i}.png' for i in range(6)]
    assert '3b.png' in capsys.readouterr().err
    inputs = [network_input(net.cfg, resized(net.cfg, read_image(path))[0])
              for path in images if path.stem != '3b']
    expected = predicted_sigmas(net.network, inputs)['backbone.conv1']
    found = [[float(row['sigma_x']), float(row['sigma_y'])] for row in table]
    assert found == [pytest.approx(row, rel=1e-4) for row in expected.tolist()]
    masks = rows(tmp_path / 'out' / 'masks.csv')
    assert masks[0]['images'] == '6'
    assert float(masks[0]['sigma_y']) == pytest.approx(expected[:, 1].mean().item(), rel=1e-4)


def test_nothing_to_draw(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'')
    with pytest.raises(ValueError, match='none of 1 images could be read'):
        write_masks(model(tmp_path), tmp_path / 'out', [tmp_path / 'a.png'])
    with pytest.raises(ValueError, match='net has no GMConv layer with a mask'):
        write_masks(model(tmp_path, 'ResNet', ''), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
    with pytest.raises(ValueError, match='nothing to draw'):
        mask_figure([], 'title')
