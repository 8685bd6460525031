"""A COCO-format data set of a few grey images."""
from __future__ import annotations

import json

from PIL import Image


def write_set(folder, images=4, classes=('ore', 'gem'), box=(20, 20)):
    """Write it; returns its annotation file and image folder, as text."""
    pictures = folder / 'images'
    pictures.mkdir(parents=True, exist_ok=True)
    content = dict(images=[], annotations=[],
                   categories=[dict(id=i + 1, name=name) for i, name in enumerate(classes)])
    for i in range(images):
        Image.new('RGB', (80, 60), (90, 90, 90)).save(pictures / f'{i}.png')
        content['images'].append(dict(id=i + 1, file_name=f'{i}.png', width=80, height=60))
        content['annotations'].append(dict(
            id=i + 1, image_id=i + 1, category_id=1 + i % len(classes), iscrowd=0,
            bbox=[5, 5, *box], area=box[0] * box[1]))
    (folder / 'coco.json').write_text(json.dumps(content))
    return str(folder / 'coco.json'), str(pictures)
