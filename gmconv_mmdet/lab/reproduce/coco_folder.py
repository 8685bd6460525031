"""Where a folder in COCO's format keeps its annotations and images."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# Looked for in this order; the first that exists is taken. COCO 2017's own names come first.
_ANNOTATIONS = ('annotations/instances_{split}2017.json', 'annotations/instances_{split}.json',
                'annotations/{split}.json', '{split}.json')
_IMAGES = ('{split}2017', '{split}', 'images/{split}2017', 'images/{split}', 'images')


class CocoFolder(NamedTuple):
    """A data set on disk. All but ``root`` are relative to ``root`` (or absolute)."""
    root: Path
    train_annotations: str
    val_annotations: str
    train_images: str
    val_images: str

    def path(self, part: str) -> Path:
        """Absolute path of one of the four parts, by its field's name."""
        return self.root / getattr(self, part)


def find_coco_folder(root: Path | str, **given: str | None) -> CocoFolder:
    """The parts of a data set under ``root``.

    Args:
        root (Path | str): the folder that holds the data set.
        **given: parts that are known, by :class:`CocoFolder`'s field names; None is as not given. A
            part that is neither given nor found keeps COCO 2017's name: preflight reports it.

    Returns:
        CocoFolder: with an absolute root.
    """
    root = Path(root).expanduser().absolute()

    def part(name: str, candidates: Sequence[str]) -> str:
        if given.get(name) is not None:
            return given[name]
        names = [candidate.format(split=name.split('_')[0]) for candidate in candidates]
        return next((candidate for candidate in names if (root / candidate).exists()), names[0])

    return CocoFolder(
        root,
        train_annotations=part('train_annotations', _ANNOTATIONS),
        val_annotations=part('val_annotations', _ANNOTATIONS),
        train_images=part('train_images', _IMAGES),
        val_images=part('val_images', _IMAGES))
