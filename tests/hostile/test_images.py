"""Broken and unusual images."""
from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile, Resize
from mmdet.datasets.transforms import LoadAnnotations  # noqa: F401  (registers mmdet's transforms)
from PIL import Image

from gmconv_mmdet.visualization.image_files import read_image

from ..lab.reproduce.conftest import edit_json
from .coco_data import TRAIN, check, data
from .outcome import assert_goes_on, assert_refused


def cut_at_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def random_from_200_bytes_on(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200] + np.random.default_rng(0).bytes(99))


def pixel_bomb(path: Path) -> None:
    """The head of a PNG of 20,000 x 20,000 pixels, in some bytes."""
    Image.new('1', (8, 8)).save(path, format='PNG')
    content = bytearray(path.read_bytes())
    content[16:24] = (20000).to_bytes(4, 'big') * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, 'big')
    path.write_bytes(content)


def of_size(width: int, height: int):
    return lambda path: Image.new('RGB', (width, height)).save(path)


def with_first_image(folder: Path, write, size=(96, 96)) -> Path:
    """The data with its first image written anew, and noted as of that size."""
    root = data(folder)
    write(root / 'images' / '0001.jpg')
    edit_json(root / TRAIN, lambda coco: coco['images'][0].update(width=size[0], height=size[1]))
    return root


@pytest.mark.parametrize('write, mode, size, says', [
    (lambda path: path.write_bytes(b''), 'all', (96, 96), 'is unreadable'),
    (lambda path: path.write_text('hello'), 'all', (96, 96), 'is unreadable'),
    (folder_instead, 'all', (96, 96), 'is unreadable'),
    (cut_at_half, 'all', (96, 96), 'is unreadable .*truncated'),
    (random_from_200_bytes_on, 'all', (96, 96), 'is unreadable'),
    (pixel_bomb, 'sample', (20000, 20000), 'is unreadable .*exceeds limit'),
    (of_size(20000, 4), 'all', (20000, 4), 'so long and narrow that nothing is left')])
def test_refused(write, mode, size, says, tmp_path):
    root = with_first_image(tmp_path, write, size)
    assert_refused(tmp_path, lambda: check(root, mode), says)


@pytest.mark.parametrize('write, mode, size', [
    (cut_at_half, 'heads', (96, 96)),  # only the head is read
    (of_size(20000, 60), 'all', (20000, 60)), (of_size(1, 1), 'all', (1, 1))])
def test_read(write, mode, size, tmp_path):
    root = with_first_image(tmp_path, write, size)
    assert_goes_on(tmp_path, lambda: check(root, mode), 'no problem')


@pytest.mark.parametrize('mode, suffix', [('16-bit', '.png'), ('L', '.jpg'), ('CMYK', '.jpg'),
                                          ('RGBA', '.png'), ('1', '.png'), ('P', '.png')])
def test_unusual_pixels_are_read_as_mmdet_reads_them(mode, suffix, tmp_path):
    path = tmp_path / f'x{suffix}'
    values = np.linspace(0, 255, 32 * 24).reshape(24, 32).astype(np.uint8)
    if mode == '16-bit':
        cv2.imwrite(str(path), values.astype(np.uint16) * 257)
    else:
        Image.fromarray(values).convert(mode).save(path)
    found = LoadImageFromFile()(dict(img_path=str(path)))['img']
    assert found.shape == (24, 32, 3) and found.dtype == np.uint8
    assert np.array_equal(found, read_image(path))


def test_an_image_of_20000_pixels_is_resized():
    image = dict(img=np.zeros((60, 20000, 3), np.uint8))
    assert Resize((1333, 800), keep_ratio=True)(image)['img'].shape == (4, 1333, 3)
