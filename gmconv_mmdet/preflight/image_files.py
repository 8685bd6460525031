"""The images that an annotation file lists: there, readable and of the noted size."""
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from ..messages import shortened

SAMPLE_SIZE = 200
_ORIENTATION = 0x0112  # in EXIF


def missing_images(images: list[dict], folder: Path) -> list[str]:
    """``file_name`` of the images that are not in ``folder``."""
    # One listing a folder instead of one question a file: minutes less on a network disk.
    present: dict[str, set[str]] = {}
    missing = []
    for image in images:
        parent, name = os.path.split(image['file_name'])
        if parent not in present:
            place = folder / parent
            present[parent] = set(os.listdir(place)) if place.is_dir() else set()
        if name not in present[parent]:
            missing.append(image['file_name'])
    return missing


def check_images(content: dict, annotations: Path, folder: Path, way_out: str, mode: str = 'sample',
                 progress: Callable[[int, int], None] = lambda done, total: None) -> list[str]:
    """The images of an annotation file: all must exist, and those that are opened must be images of
    the noted size.

    Args:
        content (dict): of an annotation file whose entries are sound.
        annotations (Path): its path, for messages.
        folder (Path): the image folder.
        way_out (str): what to do where the folder is not there.
        mode (str): 'heads' looks at the heads of 200 files, evenly spread; 'sample' decodes those;
            'all' decodes every one.
        progress (Callable): called with (images done, images in total).
    """
    if not folder.is_dir():
        return [f'image folder {folder} is not there, which {annotations} needs. {way_out}']
    images = content['images']
    if not images:
        return [f'{annotations} lists no image']
    missing = missing_images(images, folder)
    problems = []
    if missing:
        problems.append(f'{len(missing)} of {len(images)} images of {annotations} are not in '
                        f'{folder}: {shortened(missing)}. The folder is the one that file_name '
                        'starts from')
    absent = set(missing)
    there = [image for image in images if image['file_name'] not in absent]
    if mode != 'all':
        there = there[::max(1, len(there) // SAMPLE_SIZE)]
    bad = []
    for done, image in enumerate(there, 1):
        fault = _fault(folder / image['file_name'], image, mode != 'heads')
        if fault:
            bad.append(f'{image["file_name"]} {fault}')
        progress(done, len(there))
    if bad:
        problems.append(f'{len(bad)} of the {len(there)} images of {folder} that were opened '
                        f'differ from {annotations} or are damaged: {shortened(bad)}. Copy those '
                        'again, or mend their entries')
    return problems


def _fault(path: Path, image: dict, decode: bool) -> str | None:
    noted = (image['width'], image['height'])
    try:
        with Image.open(path) as opened:
            size, turned = opened.size, opened.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            if decode:
                opened.load()  # finds files that are cut off
    except Exception as error:  # what decoders raise on damaged files has no end
        return f'is unreadable ({error})'
    if turned and size == noted and size[0] != size[1]:
        return (f'is noted as {noted[0]}x{noted[1]}, but its EXIF entry turns it, as mmcv does when '
                f'it reads it, to {size[1]}x{size[0]}')
    if (size[::-1] if turned else size) != noted:
        return f'is {size[0]}x{size[1]} pixels, not {noted[0]}x{noted[1]}'
    return None
