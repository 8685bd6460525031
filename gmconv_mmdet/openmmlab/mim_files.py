"""Where packages of OpenMMLab keep the configs and tools that they ship."""
from __future__ import annotations

import importlib
from pathlib import Path


def shipped(path: str, package: str = 'gmconv_mmdet') -> Path:
    """A config, a tool or a folder of a package: from ``.mim`` in an installed one, from beside the
    package in a checkout.

    Args:
        path (str): ``'configs/gmconv'``, ``'tools/train.py'``.
        package (str): ``'gmconv_mmdet'`` or ``'mmdet'``.

    Raises:
        FileNotFoundError: it is in neither place.
    """
    folder = Path(importlib.import_module(package).__file__).resolve().parent
    for root in (folder / '.mim', folder.parent):
        if (root / path).exists():
            return root / path
    raise FileNotFoundError(f'no {path} in {folder / ".mim"} or {folder.parent}: install {package} '
                            'again')
