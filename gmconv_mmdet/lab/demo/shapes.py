"""A small detection set in COCO format, drawn on the spot: five kinds of shapes among clutter.

Images of 224 to 256 pixels a side, a soft background with lines and rings that are no objects; shapes
of COCO's three size classes (areas below 32^2, below 96^2 and above), stretched and rotated. A class
has an outline and a usual hue, which overlaps with its neighbours'.
"""
from __future__ import annotations

import colorsys
import json
import math
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

CLASSES = ('disc', 'triangle', 'square', 'star', 'cross')
MARKER = 'shapes.json'  # in a folder made here: what it was made from
GENERATOR = 2  # counted up when the same settings would give other images

# Square roots of object areas, in pixels, and how often each range is drawn.
SIZE_RANGES = ((11., 29.), (36., 88.), (102., 132.))
SIZE_SHARES = (0.4, 0.42, 0.18)


class ShapesError(Exception):
    """The set cannot be made where it was asked for; the text says why and what to do."""


def unit_outline(label: int) -> np.ndarray:
    """Outline of a class around the origin, unrotated, of area 1. ``(P, 2)``, x and y."""
    if CLASSES[label] == 'cross':
        arm = np.array([1 - 0.36j, 1 + 0.36j, 0.36 + 0.36j])  # the same once for each quarter turn
        points = np.concatenate([arm * 1j ** quarter for quarter in range(4)])
    else:
        corners, radii = dict(disc=(40, 1), triangle=(3, 1), square=(4, 1), star=(10, (1, 0.45)))[
            CLASSES[label]]
        points = np.resize(radii, corners) * np.exp(2j * math.pi * np.arange(corners) / corners)
    area = abs(np.sum(points.conj() * np.roll(points, -1)).imag) / 2
    return np.stack([points.real, points.imag], 1) / math.sqrt(area)


def random_outline(rng: np.random.Generator, label: int, size: float) -> np.ndarray:
    """A class's outline of area ``size ** 2``, stretched and rotated at random, beginning at 0."""
    stretch, angle = math.exp(rng.uniform(-0.2, 0.2)), rng.uniform(0, 2 * math.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    outline = unit_outline(label) * (stretch, 1 / stretch) * size @ np.array([[cos, sin], [-sin, cos]])
    return outline - outline.min(0)


def soft_noise(rng: np.random.Generator, height: int, width: int, strength: float) -> np.ndarray:
    """Blotches, ``(height, width, 3)``."""
    return cv2.resize(rng.normal(0, strength, (5, 5, 3)), (width, height),
                      interpolation=cv2.INTER_CUBIC)


def class_colour(rng: np.random.Generator, label: int) -> np.ndarray:
    """BGR colour with a hue about that of the class: 72 degrees apart, standard deviation 30."""
    hue = rng.normal(label / len(CLASSES), 30 / 360) % 1
    return np.array(colorsys.hsv_to_rgb(hue, *rng.uniform(0.4, 1, 2))[::-1]) * 255


def draw_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A soft background with lines and rings, ``(height, width, 3)``."""
    image = rng.uniform(20, 235, 3) + soft_noise(rng, height, width, 40)
    for _ in range(rng.integers(2, 7)):
        start, end = rng.integers((0, 0), (width, height), (2, 2)).tolist()
        colour, thickness = rng.uniform(20, 235, 3).tolist(), int(rng.integers(1, 4))
        if rng.random() < 0.5:
            cv2.line(image, start, end, colour, thickness)
        else:
            cv2.circle(image, start, int(rng.integers(5, 50)), colour, thickness)
    return image


def draw_image(rng: np.random.Generator) -> tuple[np.ndarray, list[dict]]:
    """One image, ``(H, W, 3)`` uint8 BGR with sides of 224 to 256 pixels, and COCO's entries of its
    objects, without the ids. Every object is seen whole."""
    height, width = rng.integers(224, 257, 2).tolist()
    image = draw_background(rng, height, width)
    free = np.ones((height, width), bool)
    objects = []
    sizes = [rng.uniform(*SIZE_RANGES[i])
             for i in rng.choice(len(SIZE_RANGES), rng.integers(2, 7), p=SIZE_SHARES)]
    for size in sorted(sizes, reverse=True):  # the large ones need room first
        label = int(rng.integers(len(CLASSES)))
        for _ in range(20):  # tries to find room
            outline = random_outline(rng, label, size)
            room = np.array([width, height]) - outline.max(0)
            if (room < 0).any():
                continue
            outline = np.round(outline + rng.uniform((0, 0), room), 2).clip(0, (width, height))
            polygon = [outline.ravel().tolist()]
            pixels, = coco_mask.frPyObjects(polygon, height, width)
            x, y, w, h = coco_mask.toBbox(pixels).astype(int).tolist()
            if not free[y:y + h, x:x + w].all():
                continue
            free[y:y + h, x:x + w] = False
            inside = coco_mask.decode(pixels).astype(bool)
            image[inside] = (class_colour(rng, label) + soft_noise(rng, height, width, 20))[inside]
            objects.append(dict(category_id=label + 1, bbox=[x, y, w, h], iscrowd=0,
                                area=int(coco_mask.area(pixels)), segmentation=polygon))
            break
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.8))
    image += rng.normal(0, rng.uniform(2, 8), image.shape)
    return image.clip(0, 255).round().astype(np.uint8), objects


def write_split(folder: Path, split: str, count: int, seed: tuple[int, int]) -> None:
    """Write ``count`` images to ``folder/<split>`` and ``annotations/instances_<split>.json``."""
    (folder / split).mkdir()
    images, annotations = [], []
    for image_id in range(1, count + 1):
        image, objects = draw_image(np.random.default_rng((*seed, image_id)))
        name = f'{image_id:06d}.jpg'
        if not cv2.imwrite(str(folder / split / name), image, [cv2.IMWRITE_JPEG_QUALITY, 92]):
            raise OSError(f'could not write {folder / split / name}')
        height, width = image.shape[:2]
        images.append(dict(id=image_id, file_name=name, width=width, height=height))
        for found in objects:
            annotations.append(dict(id=len(annotations) + 1, image_id=image_id, **found))
        if image_id % 100 == 0 or image_id == count:
            print(f'{split}: {image_id} of {count} images drawn', flush=True)
    categories = [dict(id=i, name=name, supercategory='shape')
                  for i, name in enumerate(CLASSES, start=1)]
    (folder / 'annotations' / f'instances_{split}.json').write_text(json.dumps(
        dict(info=dict(description='shapes drawn by gmconv_mmdet'), licenses=[], images=images,
             annotations=annotations, categories=categories)))


def make_shapes(folder: Path, train: int = 320, val: int = 80, seed: int = 0) -> bool:
    """Make the set in ``folder``, which appears complete or not at all.

    Holds ``train/``, ``val/`` (JPEG images), ``annotations/instances_{train,val}.json`` and the
    marker ``shapes.json``. The same arguments give the same bytes (with the same OpenCV and numpy).

    Returns:
        bool: False where the folder already holds this very set, which is then left alone.

    Raises:
        ShapesError: the folder exists and is something else. It is never overwritten.
    """
    settings = dict(generator=GENERATOR, train=train, val=val, seed=seed)
    if folder.exists():
        marker = folder / MARKER
        if not marker.exists():
            raise ShapesError(f'{folder} exists and was not made by this command. Move it away, or '
                              'name another folder.')
        found = json.loads(marker.read_text())
        if found != settings:
            raise ShapesError(f'{folder} holds another set of shapes: {found}, asked for is '
                              f'{settings}. Move it away, or name another folder.')
        return False
    scratch = folder.with_name(f'.{folder.name}.{os.getpid()}.partial')
    try:
        (scratch / 'annotations').mkdir(parents=True)
        write_split(scratch, 'train', train, (seed, 0))
        write_split(scratch, 'val', val, (seed, 1))
        (scratch / MARKER).write_text(json.dumps(settings))
        os.rename(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return True
