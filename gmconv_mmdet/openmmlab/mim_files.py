"""Where packages of OpenMMLab keep the configs and tools that they ship.

    python -m gmconv_mmdet.openmmlab.mim_files CONFIG

prints the path of a config of this project, for a config's ``_base_``. Without a name: of all.
"""
from __future__ import annotations

import difflib
import importlib
import sys
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


def shipped_configs(name: str = '') -> list[Path]:
    """Configs of this project: all, or the one called ``name``, with or without folder and ``.py``.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    root = shipped('configs')
    configs = sorted(path for path in root.rglob('*.py') if '_base_' not in path.parts)
    if not name:
        return configs
    wanted = Path(name).with_suffix('').parts
    found = [path for path in configs if path.with_suffix('').parts[-len(wanted):] == wanted]
    if not found:
        close = difflib.get_close_matches(Path(name).stem, [path.stem for path in configs])
        raise FileNotFoundError(f'no config {name} in {root}: '
                                + (f'near it are {", ".join(close)}' if close else
                                   'the command without a name lists them'))
    return found


if __name__ == '__main__':
    try:
        print(*shipped_configs(*sys.argv[1:2]), sep='\n')
    except FileNotFoundError as error:
        sys.exit(f'{type(error).__name__}: {error}')
