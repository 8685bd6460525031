"""Where a number comes from: code and environment."""
from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

import gmconv_mmdet

_PACKAGES = ('torch', 'torchvision', 'mmcv', 'onedl-mmcv', 'mmengine', 'onedl-mmengine', 'mmdet',
             'onedl-mmdetection', 'numpy', 'pycocotools', 'faster-coco-eval')


def code_version() -> str:
    """The commit of the checkout that the package runs from, ``+changes`` if it has been edited;
    the package's version where it isn't a checkout."""
    root = Path(gmconv_mmdet.__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(['git', '-C', str(root), *arguments], capture_output=True, text=True,
                              check=True).stdout.strip()

    try:
        if Path(git('rev-parse', '--show-toplevel')).resolve() != root:
            raise FileNotFoundError('installed somewhere inside another checkout')
        changes = git('status', '--porcelain', '--untracked-files=no')
        return git('rev-parse', 'HEAD') + ('+changes' if changes else '')
    except (OSError, subprocess.CalledProcessError):
        return f'version {gmconv_mmdet.__version__}'


def environment() -> dict[str, str]:
    """MMEngine's description of the machine and the versions of the packages that matter."""
    from mmengine.utils.dl_utils import collect_env
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    # Long descriptions (how torch was compiled) stand in the run's log, where MMEngine prints them.
    machine = {key: str(value) for key, value in collect_env().items() if len(str(value)) < 100}
    return {**machine, **versions, 'gmconv_mmdet': gmconv_mmdet.__version__}
