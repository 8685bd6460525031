"""CIFAR-10 as one ``.npz`` of JPEG files. Importing this module needs mmpretrain."""
from __future__ import annotations

import cv2
import numpy as np
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS

_ENTRIES = ('jpeg', 'offsets', 'labels', 'classes')


@DATASETS.register_module()
class PackedCIFAR(BaseDataset):
    """Small images packed into an ``.npz`` file, decoded into memory once.

    The file has ``jpeg`` (uint8, all JPEG files end to end), ``offsets`` (image ``i`` is
    ``jpeg[offsets[i]:offsets[i + 1]]``), ``labels`` (int) and ``classes`` (names). Images come as
    RGB, as those of mmpretrain's ``CIFAR10`` do, so that its pipelines and normalisation fit.

    Args:
        ann_file (str): the ``.npz`` file, relative to ``data_root``.
        every (int): keep only each ``every``-th image. In a file sorted by class that is the same
            share of each class.
        **kwargs: of mmpretrain's ``BaseDataset``: ``data_root``, ``pipeline``, ``indices``, ...

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file lacks one of its entries, or ``every`` is not 1 or more.
    """

    def __init__(self, ann_file: str, every: int = 1, **kwargs) -> None:
        if not isinstance(every, int) or every < 1:
            raise ValueError(f'every must be a whole number of 1 or more, got {every!r}')
        self.every = every
        super().__init__(ann_file=ann_file, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Decode the images that are kept."""
        with np.load(self.ann_file) as packed:
            missing = [name for name in _ENTRIES if name not in packed]
            if missing:
                raise ValueError(f'{self.ann_file} has no {", ".join(missing)}: not a packed data '
                                 f'set, which has {", ".join(_ENTRIES)}')
            jpeg, offsets, labels, classes = (packed[name] for name in _ENTRIES)
        self._metainfo['classes'] = tuple(str(name) for name in classes)
        return [dict(img=cv2.imdecode(jpeg[start:end], cv2.IMREAD_COLOR)[..., ::-1].copy(),
                     gt_label=np.array(label, dtype=np.int64))
                for start, end, label in zip(offsets[:-1:self.every], offsets[1::self.every],
                                             labels[::self.every])]
