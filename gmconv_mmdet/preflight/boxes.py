"""Boxes of a sound annotation file against their images, as mmdet will take them."""
from __future__ import annotations

from collections import Counter
from pathlib import Path

from .annotation_file import told

# Share of boxes from which on the file, not the single box, is wrong. COCO's and DeepPCB's: 0.
_WRONG_FORMAT = 0.2


def check_format(content: dict, path: Path) -> list[str]:
    """Boxes of a whole file in another format than COCO's ``[x, y, width, height]`` in pixels.

    Args:
        content (dict): of a file whose entries are sound.
        path (Path): of the file.
    """
    sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
    boxes = [(a['bbox'], sizes[a['image_id']]) for a in content['annotations']]
    if not boxes:
        return []
    if all(max(box) <= 1 for box, _ in boxes):
        return [f'the boxes of {path} are fractions of the image, {boxes[0][0]} for one: COCO\'s '
                'format has pixels. Multiply x and width by the image\'s width, y and height by its '
                'height']
    beyond = sum(x + w > width + 1 or y + h > height + 1
                 for (x, y, w, h), (width, height) in boxes)
    corners = all(x <= x2 <= width + 1 and y <= y2 <= height + 1
                  for (x, y, x2, y2), (width, height) in boxes)
    if beyond > _WRONG_FORMAT * len(boxes) and corners:
        return [f'the boxes of {path} look like corners [x1, y1, x2, y2], since {beyond} of '
                f'{len(boxes)} reach beyond their images as [x, y, width, height], which COCO\'s '
                'format has: write x2 - x1 and y2 - y1 in place of x2 and y2']
    small = sum(w < 1 or h < 1 or a['area'] <= 0
                for a, ((_, _, w, h), _) in zip(content['annotations'], boxes))
    if small == len(boxes):
        return [f'all {small} boxes of {path} are smaller than a pixel or have area 0, and mmdet '
                'leaves those out: export them in pixels, area as width times height']
    return []


def left_out(content: dict, path: Path) -> list[str]:
    """What mmdet silently passes over or takes as it is: no faults, COCO itself has some of each.

    Args:
        content (dict): of a file whose entries are sound.
        path (Path): of the file.
    """
    sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
    counts: Counter = Counter()
    for annotation in content['annotations']:
        x, y, width, height = annotation['bbox']
        image_width, image_height = sizes[annotation['image_id']]
        if width < 1 or height < 1 or annotation['area'] <= 0:
            counts['are smaller than a pixel: mmdet leaves them out'] += 1
        elif min(x + width, image_width) <= max(x, 0) or min(y + height, image_height) <= max(y, 0):
            counts['lie outside their images: mmdet leaves them out'] += 1
        elif x < -1 or y < -1 or x + width > image_width + 1 or y + height > image_height + 1:
            counts['reach beyond their images: mmdet cuts them off there when it resizes'] += 1
    total = len(content['annotations'])
    return [f'{path}: {count} of {total} boxes {what}' for what, count in counts.items()]


def numbered_zero(content: dict, path: Path) -> list[str]:
    """A box that the evaluation would count as missed, whatever is detected."""
    return [f'{path} numbers annotations from 0, and pycocotools counts the object with number 0 as '
            'missed: number from 1'] if any(a['id'] == 0 for a in content['annotations']) else []


def vanishing_images(content: dict, path: Path, scale: tuple[int, int]) -> list[str]:
    """Images so narrow that nothing is left of them when they are fitted into ``scale``.

    Args:
        content (dict): of a file whose entries are sound.
        path (Path): of the file.
        scale (tuple[int, int]): (W, H).
    """
    def vanishes(image: dict) -> bool:
        sides = image['width'], image['height']
        factor = min(max(scale) / max(sides), min(scale) / min(sides))
        return int(min(sides) * factor + 0.5) < 1  # as mmcv rounds

    found = told(path, 'images', content['images'], vanishes,
                 f'are so long and narrow that nothing is left of them at {scale[0]}x{scale[1]} '
                 'pixels: cut them into parts')
    return [found] if found else []
