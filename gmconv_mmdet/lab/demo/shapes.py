"""A small detection set in COCO format, drawn on the spot: five kinds of shapes among clutter.

Images of 224 to 256 pixels a side with a gradient, stripes and noise behind; textured shapes of
three size classes, which fill COCO's bands (areas below 32^2, below 96^2 and above); lines, rings
and pebbles that are no objects; now and then a swarm of tiny shapes as one crowd region. A class
has an outline and a usual hue, which overlaps with its neighbours' and occurs in background and
clutter; texture, size and rotation are drawn alike for all classes.
"""
from __future__ import annotations

import colorsys
import json
import math
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

CLASSES = ('disc', 'triangle', 'square', 'star', 'cross')
MARKER = 'shapes.json'  # in a folder made here: what it was made from
GENERATOR = 1  # counted up when the same settings would give other images

# Square roots of object areas, in pixels, and how often each range is drawn.
SIZE_RANGES = ((11., 29.), (36., 88.), (102., 132.))
SIZE_SHARES = (0.4, 0.42, 0.18)
CROWD_SHARE = 0.12  # of images, as far as there is room


class Object(NamedTuple):
    """One annotated object: class index, outline or crowd mask, and its pixels."""
    label: int
    outline: np.ndarray | None  # (P, 2), x and y; None for a crowd
    mask: np.ndarray  # (H, W) bool


class ShapesError(Exception):
    """The set cannot be made where it was asked for; the text says why and what to do."""


def unit_outline(label: int) -> np.ndarray:
    """Outline of a class around the origin, unrotated, of area 1. ``(P, 2)``, x and y."""
    def spokes(count: int, radii: tuple[float, ...]) -> np.ndarray:
        angles = np.arange(count) * 2 * math.pi / count
        return np.stack([np.cos(angles), np.sin(angles)], 1) * np.resize(radii, count)[:, None]

    arm = 0.36  # half the width of the cross' arms, in units of its half length
    outline = {
        'disc': spokes(40, (1., )),
        'triangle': spokes(3, (1., )),
        'square': spokes(4, (1., )),
        'star': spokes(10, (1., 0.45)),
        'cross': np.array([(1, arm), (arm, arm), (arm, 1), (-arm, 1), (-arm, arm), (-1, arm),
                           (-1, -arm), (-arm, -arm), (-arm, -1), (arm, -1), (arm, -arm),
                           (1, -arm)]),
    }[CLASSES[label]]
    x, y = outline.T
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    return outline / math.sqrt(area)


def random_outline(rng: np.random.Generator, label: int, size: float) -> np.ndarray:
    """A class's outline of area ``size ** 2`` around 0, stretched and rotated at random."""
    stretch = math.exp(rng.uniform(-0.2, 0.2))
    angle = rng.uniform(0, 2 * math.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    outline = unit_outline(label) * (stretch, 1 / stretch) * size
    return outline @ np.array([[cos, sin], [-sin, cos]])


def outline_mask(outline: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels ``(height, width)`` that COCO counts as inside a polygon."""
    parts = coco_mask.frPyObjects([outline.ravel().tolist()], height, width)
    return coco_mask.decode(parts)[:, :, 0].astype(bool)


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths: down the columns, starting with the count of zeros."""
    flat = np.concatenate([[0], mask.ravel(order='F').astype(np.int8), [1 - mask[-1, -1]]])
    borders = np.flatnonzero(np.diff(flat))
    return np.diff(np.concatenate([[0], borders])).tolist()


def random_colour(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(20, 235, 3)


def class_colour(rng: np.random.Generator, label: int) -> np.ndarray:
    """BGR colour with a hue about that of the class: 72 degrees apart, standard deviation 30."""
    hue = rng.normal(label / len(CLASSES), 30 / 360) % 1
    rgb = colorsys.hsv_to_rgb(hue, rng.uniform(0.4, 1), rng.uniform(0.4, 1))
    return np.array(rgb[::-1]) * 255


def texture(rng: np.random.Generator, height: int, width: int, colour: np.ndarray,
            strength: float) -> np.ndarray:
    """``colour`` with a gradient, stripes and soft blotches. ``(height, width, 3)``, unclipped."""
    y, x = np.mgrid[:height, :width]
    angle, phase = rng.uniform(0, 2 * math.pi, 2)
    along = (x * math.cos(angle) + y * math.sin(angle)) / max(height, width)
    stripes = np.sin(along * rng.uniform(15, 80) + phase) * rng.uniform(0, 0.5)
    blotches = cv2.resize(rng.normal(0, 0.4, (6, 6)), (width, height),
                          interpolation=cv2.INTER_CUBIC)
    pattern = along * rng.uniform(0, 1) + stripes + blotches
    return colour + strength * pattern[..., None] * rng.uniform(0.4, 1, 3)


def draw_clutter(rng: np.random.Generator, image: np.ndarray) -> None:
    """Draw lines, rings and pebbles, which are no objects, onto ``(H, W, 3)``."""
    height, width = image.shape[:2]
    for _ in range(rng.integers(2, 7)):
        colour = random_colour(rng).tolist()
        centre = rng.uniform((0, 0), (width, height))
        kind = rng.choice(['line', 'ring', 'pebble'])
        if kind == 'line':
            reach = rng.normal(0, width / 3, 2)
            cv2.line(image, (centre - reach).astype(int).tolist(),
                     (centre + reach).astype(int).tolist(), colour, int(rng.integers(1, 4)))
        elif kind == 'ring':
            cv2.circle(image, centre.astype(int).tolist(), int(rng.integers(5, 50)), colour,
                       int(rng.integers(1, 4)))
        else:
            angles = np.sort(rng.uniform(0, 2 * math.pi, rng.integers(6, 11)))
            radii = rng.uniform(4, 24) * rng.uniform(0.3, 1.3, (len(angles), 1))
            pebble = centre + radii * np.stack([np.cos(angles), np.sin(angles)], 1)
            cv2.fillPoly(image, [pebble.astype(np.int32)], colour)


def fill(rng: np.random.Generator, image: np.ndarray, found: Object) -> None:
    """Paint an object in a textured colour that differs from what is behind."""
    behind = image[found.mask].mean(0)
    colour = class_colour(rng, found.label)
    while np.abs(colour - behind).max() < 50:
        colour = class_colour(rng, found.label)
    height, width = found.mask.shape
    image[found.mask] = texture(rng, height, width, colour, strength=30)[found.mask]


def place(rng: np.random.Generator, taken: np.ndarray, label: int, size: float) -> Object | None:
    """Find room for an object, or None after some tries.

    The outline lies inside the image, and its box keeps off the pixels which ``taken`` ``(H, W)``
    marks, so that every object is seen whole.
    """
    height, width = taken.shape
    for _ in range(20):
        outline = random_outline(rng, label, size)
        outline -= outline.min(0)
        extent = outline.max(0)
        room = (width, height) - extent
        if (room < 0).any():
            continue
        outline = np.round(outline + rng.uniform((0, 0), room), 2).clip(0, (width, height))
        x0, y0 = np.floor(outline.min(0)).astype(int)
        x1, y1 = np.ceil(outline.max(0)).astype(int)
        if not taken[y0:y1, x0:x1].any():
            return Object(label, outline, outline_mask(outline, height, width))
    return None


def place_crowd(rng: np.random.Generator, taken: np.ndarray, label: int) -> Object | None:
    """A swarm of tiny shapes as one object, or None where there is no room for one."""
    height, width = taken.shape
    extent = rng.integers(40, 80, 2)  # width, height
    x0, y0 = rng.integers((0, 0), (width, height) - extent)
    if taken[y0:y0 + extent[1], x0:x0 + extent[0]].any():
        return None
    window = np.zeros(extent[::-1], bool)
    mask = np.zeros((height, width), bool)
    for _ in range(25):
        tiny = place(rng, window, label, rng.uniform(6, 9))
        if tiny is not None:
            window |= tiny.mask
    mask[y0:y0 + extent[1], x0:x0 + extent[0]] = window
    return Object(label, None, mask)


def draw_image(rng: np.random.Generator) -> tuple[np.ndarray, list[Object]]:
    """One image, ``(H, W, 3)`` uint8 BGR with sides of 224 to 256 pixels, and what is on it."""
    height, width = rng.integers(224, 257, 2).tolist()
    image = texture(rng, height, width, random_colour(rng), strength=60)
    draw_clutter(rng, image)
    taken = np.zeros((height, width), bool)
    objects: list[Object] = []
    sizes = [rng.uniform(*SIZE_RANGES[i])
             for i in rng.choice(len(SIZE_RANGES), rng.integers(2, 7), p=SIZE_SHARES)]
    crowds = [None] if rng.random() < CROWD_SHARE else []
    for size in sorted(sizes, reverse=True) + crowds:  # the large ones need room first
        label = int(rng.integers(len(CLASSES)))
        found = (place_crowd(rng, taken, label) if size is None else
                 place(rng, taken, label, size))
        if found is not None:
            fill(rng, image, found)
            taken |= found.mask
            objects.append(found)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.8))
    image += rng.normal(0, rng.uniform(2, 8), image.shape)
    return image.clip(0, 255).round().astype(np.uint8), objects


def annotation(found: Object) -> dict:
    """COCO's entry for an object, without the ids: box ``[x, y, w, h]`` and area in pixels."""
    rows, columns = np.flatnonzero(found.mask.any(1)), np.flatnonzero(found.mask.any(0))
    x0, x1, y0, y1 = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    crowd = found.outline is None
    return dict(
        category_id=found.label + 1,
        bbox=[int(x0), int(y0), int(x1 - x0), int(y1 - y0)],
        area=int(found.mask.sum()),
        segmentation=(dict(counts=run_lengths(found.mask), size=list(found.mask.shape))
                      if crowd else [found.outline.ravel().tolist()]),
        iscrowd=int(crowd))


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
            annotations.append(dict(id=len(annotations) + 1, image_id=image_id,
                                    **annotation(found)))
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
