"""Images for measurements: which files, and reading them one by one."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from ..openmmlab.configured_size import configured_scale, preprocessor_config

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')


class UnusableImage(ValueError):
    """An image that can't be read or measured; the message names it and says why."""


def image_files(folder: str | Path, limit: int | None = None) -> list[Path]:
    """The images below a folder, sorted by path, at most ``limit``; of an image file itself.

    Raises:
        FileNotFoundError: there is no such folder, or no image in it.
    """
    folder = Path(folder)
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise FileNotFoundError(f'no folder {folder}: name one that holds images (--images)')
    found = sorted(path for path in folder.rglob('*') if path.suffix.lower() in SUFFIXES)
    if not found:
        raise FileNotFoundError(f'{folder} holds no image ({", ".join(SUFFIXES)})')
    return found[:limit]


def configured_test_set(cfg: Config) -> tuple[Path, Path] | None:
    """Annotation file and image folder of a config's test set; None where it names none."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    while isinstance(dataset, Mapping) and 'ann_file' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    if not isinstance(dataset, Mapping) or not dataset.get('ann_file'):
        return None
    root = Path(dataset.get('data_root') or '')
    prefix = dataset.get('data_prefix') or {}
    folder = prefix if isinstance(prefix, str) else next(iter(prefix.values()), '')
    return root / dataset['ann_file'], root / folder


def read_image(path: str | Path) -> np.ndarray:
    """``(H, W, 3)`` uint8 in OpenCV's order of colours.

    Raises:
        UnusableImage: the file is missing, empty, cut short or no image.
    """
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UnusableImage(f'{path}: {error.strerror or error}') from error
    image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if image is None:
        raise UnusableImage(f'{path}: no image, or a damaged one')
    return image


def network_input(cfg: Config, image: np.ndarray) -> Tensor:
    """An image, ``(H, W, 3)`` uint8 in OpenCV's order of colours, as the config's data preprocessor
    hands it to the network, ``(1, 3, H, W)`` fp32, without padding."""
    settings = preprocessor_config(cfg)
    if settings.get('bgr_to_rgb') or settings.get('to_rgb'):
        image = image[..., ::-1]
    pixels = image.astype(np.float32)
    pixels -= np.float32(settings.get('mean') or 0)
    pixels /= np.float32(settings.get('std') or 1)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]


def resized(cfg: Config, image: np.ndarray,
            size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """An image ``(H, W, 3)`` at the size at which the config tests, or fitted into ``size x size``
    pixels, and the factors by which its ``(width, height)`` have changed."""
    scale, keep_ratio = ((size, size), True) if size else configured_scale(cfg) or (None, True)
    if scale is None:
        return image, np.ones(2)
    height, width = image.shape[:2]
    image = mmcv.imrescale(image, scale) if keep_ratio else mmcv.imresize(image, scale)
    return image, np.array([image.shape[1] / width, image.shape[0] / height])
