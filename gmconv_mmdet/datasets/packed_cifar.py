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
    ``jpeg[offsets[i]:offsets[i + 1]]``), ``labels`` (int) and ``classes`` (names). Images come as RGB,
    as those of mmpretrain's ``CIFAR10`` do, so that its pipelines and normalisation fit.

    Args:
        ann_file (str): the ``.npz`` file, relative to ``data_root``.
        **kwargs: of mmpretrain's ``BaseDataset``: ``data_root``, ``pipeline``, ``indices``, ...

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file lacks one of its entries.
    """

    def load_data_list(self) -> list[dict]:
        """Decode all images."""
        with np.load(self.ann_file) as packed:
            missing = [name for name in _ENTRIES if name not in packed]
            if missing:
                raise ValueError(f'{self.ann_file} has no {", ".join(missing)}: not a packed data set, '
                                 f'which has {", ".join(_ENTRIES)}')
            jpeg, offsets, labels, classes = (packed[name] for name in _ENTRIES)
        self._metainfo['classes'] = tuple(str(name) for name in classes)
        return [dict(img=cv2.imdecode(jpeg[start:end], cv2.IMREAD_COLOR)[..., ::-1].copy(),
                     gt_label=np.array(label, dtype=np.int64))
                for start, end, label in zip(offsets[:-1], offsets[1:], labels)]
