from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = ('disc', 'box', 'thing with a very long name')


def write_coco(root: Path, images: int = 4, size: tuple[int, int] = (96, 64)) -> Path:
    """A data set in COCO's format that isn't named as COCO: two boxes an image, three classes."""
    rng = np.random.default_rng(0)
    (root / 'annotations').mkdir(parents=True)
    (root / 'images').mkdir()
    for split, first in (('train', 1), ('val', 100)):
        coco = dict(images=[], annotations=[], categories=[
            dict(id=7 * i + 3, name=name) for i, name in enumerate(CLASSES)])
        for image_id in range(first, first + images):
            name = f'{image_id:04}.jpg'
            pixels = rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / 'images' / name)
            coco['images'].append(dict(id=image_id, file_name=name, width=size[0], height=size[1]))
            for _ in range(2):
                x, y, w, h = rng.integers(8, 40, 4).tolist()
                coco['annotations'].append(dict(
                    id=len(coco['annotations']) + 1, image_id=image_id, bbox=[x, y, w, h],
                    area=w * h, iscrowd=0, category_id=7 * int(rng.integers(3)) + 3))
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(coco))
    return root


@pytest.fixture
def small_coco(tmp_path) -> Path:
    return write_coco(tmp_path / 'some data')


def edit_json(path: Path, change) -> None:
    """Apply ``change`` to the content of a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
