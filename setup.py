"""What pyproject.toml can't say: configs and tools go into the wheel."""
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CHECKOUT_ONLY = ('*.sh', 'dev')  # need the files around them


class BuildWithMim(build_py):
    """Puts configs and tools into the wheel under `gmconv_mmdet/.mim`, where `mim` looks for them.
    They are copied while building: the source tree holds them once."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        mim = Path(self.build_lib, 'gmconv_mmdet', '.mim')
        shutil.rmtree(mim, ignore_errors=True)
        for folder in ('configs', 'tools'):
            shutil.copytree(ROOT / folder, mim / folder,
                            ignore=shutil.ignore_patterns('__pycache__', *CHECKOUT_ONLY))
        shutil.copy(ROOT / 'model-index.yml', mim)


setup(cmdclass={'build_py': BuildWithMim})
