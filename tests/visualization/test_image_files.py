import cv2
import numpy as np
import pytest
import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmengine.config import Config

from gmconv_mmdet.visualization.image_files import (
    UnusableImage,
    image_files,
    network_input,
    read_image,
    resized,
)

PREPROCESSOR = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)


def picture(height=20, width=30):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def config(**more):
    return Config(dict(model=dict(backbone=dict(type='ResNet'), data_preprocessor=dict(
        PREPROCESSOR, type='DetDataPreprocessor')), **more))


def test_files_sorted_below_a_folder(tmp_path):
    for name in ('b.png', 'a.JPG', 'sub/c.jpeg', 'notes.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'')
    assert [p.name for p in image_files(tmp_path)] == ['a.JPG', 'b.png', 'c.jpeg']
    assert [p.name for p in image_files(tmp_path, 2)] == ['a.JPG', 'b.png']
    assert image_files(tmp_path / 'b.png') == [tmp_path / 'b.png']
    with pytest.raises(FileNotFoundError, match='no folder .*--images'):
        image_files(tmp_path / 'none')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='holds no image'):
        image_files(tmp_path / 'empty')


def test_reading_and_refusing(tmp_path):
    cv2.imwrite(str(tmp_path / 'ä b.png'), picture())
    assert np.array_equal(read_image(tmp_path / 'ä b.png'), picture())
    (tmp_path / 'broken.jpg').write_bytes(b'\xff\xd8\xff\xe0 not a picture')
    (tmp_path / 'empty.jpg').write_bytes(b'')
    for name in ('broken.jpg', 'empty.jpg', 'missing.jpg'):
        with pytest.raises(UnusableImage, match=name):
            read_image(tmp_path / name)


def test_the_networks_input_is_mmdets():
    cfg, image = config(), picture()
    for rgb in (True, False):
        cfg.model.data_preprocessor.bgr_to_rgb = rgb
        theirs = DetDataPreprocessor(**dict(PREPROCESSOR, bgr_to_rgb=rgb))(
            dict(inputs=[torch.from_numpy(image.transpose(2, 0, 1))]), training=False)['inputs']
        assert torch.allclose(network_input(cfg, image), theirs, atol=1e-5)


@pytest.mark.parametrize('step, size, shape', [
    (dict(type='Resize', scale=(60, 30), keep_ratio=True), None, (30, 45)),
    (dict(type='Resize', scale=(60, 30), keep_ratio=False), None, (30, 60)),
    (dict(type='Resize', scale=(60, 30), keep_ratio=True), 90, (60, 90)),
    (dict(type='Pad'), None, (20, 30))])
def test_sizes(step, size, shape):
    cfg = config(test_dataloader=dict(dataset=dict(pipeline=[step])))
    image, factor = resized(cfg, picture(), size)
    assert image.shape[:2] == shape and factor.tolist() == [shape[1] / 30, shape[0] / 20]
