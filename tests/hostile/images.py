"""Broken and unusual images."""
from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile, Resize
from mmdet.datasets.transforms import LoadAnnotations  # noqa: F401  (registers mmdet's transforms)
from PIL import Image

from gmconv_mmdet.visualization.image_files import read_image

from ..lab.reproduce.conftest import edit_json
from .annotations import CHECK, TRAIN, checks, data
from .case import case

READ, MMDET = '`tools/analysis_tools/visualize_erf.py`', 'mmdet\'s `LoadImageFromFile`'


def replaced(folder, write, mode='all', size=None):
    """The data with its first image written anew."""
    root = data(folder)
    write(root / 'images' / '0001.jpg')
    if size is not None:
        edit_json(root / TRAIN, lambda coco: coco['images'][0].update(width=size[0],
                                                                      height=size[1]))
    return checks(root, mode)


FILES = {
    'an empty file': (lambda path: path.write_bytes(b''), 'is unreadable'),
    'a text file': (lambda path: path.write_text('hello'), 'is unreadable'),
    'a folder of that name': (lambda path: (path.unlink(), path.mkdir()), 'is unreadable'),
    'a JPEG cut off at half': (
        lambda path: path.write_bytes(path.read_bytes()[:path.stat().st_size // 2]),
        'is unreadable .*truncated'),
    'random bytes after a JPEG\'s first kilobyte': (
        lambda path: path.write_bytes(path.read_bytes()[:200] + np.random.default_rng(0).bytes(99)),
        'is unreadable'),
    'of another size than noted': (lambda path: Image.new('RGB', (5, 5)).save(path),
                                   'is 5x5 pixels, not 96x96'),
}
for _fault, (_write, _says) in FILES.items():
    @case('images', _fault, f'{CHECK[:-1]} --check-images all`', refused=_says)
    def broken(folder, write=_write):
        return replaced(folder, write)


@case('images', 'a JPEG cut off at half', CHECK, goes_on='no problem')
def cut_sample(folder):
    """Only the head is read; mmdet would train on an image that is grey below."""
    return replaced(folder, FILES['a JPEG cut off at half'][0], 'heads')


def bomb(path):
    """A PNG of 20,000 x 20,000 pixels in some bytes: its head alone."""
    Image.new('1', (8, 8)).save(path, format='PNG')
    content = bytearray(path.read_bytes())
    content[16:24] = (20000).to_bytes(4, 'big') * 2
    import zlib
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, 'big')
    path.write_bytes(content)


@case('images', 'a PNG that claims 20,000 x 20,000 pixels in 80 bytes', CHECK,
      refused='is unreadable .*exceeds limit')
def pixel_bomb(folder):
    return replaced(folder, bomb, 'sample', (20000, 20000))


@case('images', '20,000 x 4 pixels', CHECK, refused='so long and narrow that nothing is left')
def narrow(folder):
    return replaced(folder, lambda path: Image.new('RGB', (20000, 4)).save(path), 'all', (20000, 4))


@case('images', '20,000 x 60 pixels', CHECK, goes_on='no problem')
def wide(folder):
    return replaced(folder, lambda path: Image.new('RGB', (20000, 60)).save(path), 'all',
                    (20000, 60))


@case('images', '1 x 1 pixel', CHECK, goes_on='no problem')
def tiny(folder):
    return replaced(folder, lambda path: Image.new('RGB', (1, 1)).save(path), 'all', (1, 1))


def shades(path, mode):
    values = np.linspace(0, 255, 32 * 24).reshape(24, 32).astype(np.uint8)
    if mode == '16-bit':
        cv2.imwrite(str(path), values.astype(np.uint16) * 257)
    else:
        Image.fromarray(values).convert(mode).save(path)


UNUSUAL = {'16-bit': '.png', 'L': '.jpg', 'CMYK': '.jpg', 'RGBA': '.png', '1': '.png', 'P': '.png'}
NAMES = {'L': 'grey', 'CMYK': 'CMYK', '16-bit': '16-bit grey', 'RGBA': 'with transparency',
         '1': 'black and white, one bit', 'P': 'with a palette'}
for _mode, _suffix in UNUSUAL.items():
    @case('images', NAMES[_mode], MMDET, goes_on=r'\(24, 32, 3\) uint8')
    def unusual(folder, mode=_mode, suffix=_suffix):
        path = folder / f'x{suffix}'
        shades(path, mode)

        def act():
            found = LoadImageFromFile()(dict(img_path=str(path)))['img']
            assert np.array_equal(found, read_image(path))
            return f'an image {found.shape} {found.dtype}, as every other'
        return act


@case('images', '20,000 x 60 pixels', 'mmdet\'s `Resize`', goes_on=r'\(4, 1333, 3\)')
def wide_resized(folder):
    return lambda: 'an image ' + str(Resize((1333, 800), keep_ratio=True)(
        dict(img=np.zeros((60, 20000, 3), np.uint8)))['img'].shape)
