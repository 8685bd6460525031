"""Fields of central units against the definition, and of objects."""
import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config

from gmconv_mmdet.visualization.coco_objects import CocoObject
from gmconv_mmdet.visualization.erf import axis_variance
from gmconv_mmdet.visualization.erf_units import maps_of_box, measure_network, measure_objects
from gmconv_mmdet.visualization.measured_model import load_model

NET = """
model = dict(
    type='FasterRCNN', backbone=dict(type='ResNet', depth=18, base_channels=4),
    neck=dict(type='FPN', in_channels=[4, 8, 16, 32], out_channels=4, num_outs=5),
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[100, 110, 120],
                           std=[50., 60., 70.], bgr_to_rgb=True, pad_size_divisor=32),
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[4, 8, 16, 32], finest_scale=28)))
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='Resize', scale=(160, 100), keep_ratio=True)]))
"""
OBJECTS = {'a.png': [CocoObject(1, 'small', (10., 10., 26., 30.)),
                     CocoObject(2, 'large', (0., 0., 200., 120.))],
           'broken.png': [CocoObject(3, 'medium', (10., 10., 50., 50.))],
           'b.png': [CocoObject(4, 'small', (150., 90., 160., 100.))]}


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp('net') / 'net.py'
    path.write_text(NET)
    return load_model(str(path))


@pytest.fixture
def folder(tmp_path):
    for name in ('a.png', 'b.png'):
        cv2.imwrite(str(tmp_path / name), np.random.default_rng(0).integers(0, 255, (120, 200, 3)))
    (tmp_path / 'broken.png').write_bytes(b'\x89PNG')
    return tmp_path


@pytest.mark.parametrize('roi_head, size, level', [
    (dict(bbox_roi_extractor=dict(featmap_strides=[4, 8, 16, 32], finest_scale=28)), 56, 'P4'),
    (dict(bbox_roi_extractor=dict(featmap_strides=[4, 8], finest_scale=28)), 500, 'P4'),
    (None, 10, 'P3'), (None, 224, 'P4'), (None, 447, 'P4'), (None, 448, 'P5'), (None, 1e4, 'P7')])
def test_levels_of_boxes(roi_head, size, level):
    cfg = Config(dict(model=dict(backbone=dict(), **(dict(roi_head=roi_head) if roi_head else {}))))
    names = ['C2', 'C3', 'P3', 'P4', 'P5', 'P6', 'P7']
    assert maps_of_box(cfg, names, (size, size)) == {'C3': 'C3', 'P': level}
    assert maps_of_box(cfg, names[:2], (size, size)) == {'C3': 'C3'}


def test_rows_and_maps(model, folder):
    what = (model, folder / 'x.json', folder, OBJECTS)
    result = measure_objects(*what, folder / 'out' / 'r.npz', crop=65)
    assert {key: result.count(key) for key in result.sums} == {
        'C5/small': 2, 'P/small': 2, 'C5/large': 1, 'P/large': 1}
    assert list(result.skipped) == ['broken.png'] and result.done == ['a.png', 'b.png']
    by_object = {(row['annotation'], row['key'][0]): row for row in result.rows}
    # 200 x 120 fit into 160 x 100 by 0.8: the small box is 12.8 x 16 px at (8, 8), its centre at
    # (14.4, 16); of P2's units, every 4 px, the one at (12, 16) is next to it (13.9, 15.5).
    small = by_object[1, 'P']
    assert small['level'] == 'P2' and small['box'] == pytest.approx([-4, -8, 8.8, 8], abs=.01)
    # 160 x 96 px is 2 ** 2.1 times the finest scale of 28.
    assert by_object[2, 'P']['level'] == 'P4' and by_object[2, 'C']['level'] == 'C5'
    for row in result.rows:
        assert 0 < row['inside'] <= 1 and 0 < row['in_crop'] <= 1 and row['radius'] > 0
    assert by_object[2, 'C']['inside'] == pytest.approx(1)  # it fills the image
    for key in result.sums:  # every object has the same mass
        in_crop = [row['in_crop'] for row in result.rows if row['key'] == key]
        assert result.mean(key).shape == (65, 65)
        assert result.mean(key).sum() == pytest.approx(np.mean(in_crop))
    for crop in (1, 512):
        with pytest.raises(ValueError, match=f'crop must be odd.*got {crop}'):
            measure_objects(*what, folder / 'r.npz', crop=crop)
    whole = measure_objects(*what, folder / 'whole.npz', crop=401)
    for key in ('C5/large', 'P/large'):
        row = next(row for row in whole.rows if row['key'] == key)
        assert row['in_crop'] == pytest.approx(1)
        assert sum(axis_variance(whole.mean(key))) == pytest.approx(row['radius']**2)


def test_average_of_single_gradients(model, folder):
    """Against the definition, written out with the backbone alone."""
    images = sorted(folder.glob('*.png'))
    result = measure_network(model, images, folder, folder / 'r.npz', ['C5', 'C3'], size=96)
    assert list(result.skipped) == ['broken.png'] and result.done == ['a.png', 'b.png']
    for index, name in ((3, 'C5'), (1, 'C3')):
        expected = np.zeros((96, 96))
        for file in result.done:
            pixels = cv2.resize(cv2.imread(str(folder / file)), (96, 96),
                                interpolation=cv2.INTER_CUBIC)[..., ::-1].astype(np.float32)
            x = torch.tensor((pixels - np.float32([100, 110, 120])) / np.float32([50, 60, 70]))
            x = x.permute(2, 0, 1)[None].requires_grad_()
            y = model.network.backbone(x)[index]
            F.relu(y[:, :, y.shape[2] // 2, y.shape[3] // 2]).sum().backward()
            expected += F.relu(x.grad)[0].sum(0).double().numpy() / 2
        assert np.allclose(result.mean(name), expected, rtol=1e-4, atol=1e-6 * expected.max())
    with pytest.raises(ValueError, match='net has no output C9, P8; it has C2, C3.*P6'):
        measure_network(model, images, folder, folder / 'x.npz', ['C5', 'C9', 'P8'], size=64)
    assert not (folder / 'x.npz').exists()
