import runpy
import shutil
from pathlib import Path

from setuptools import find_packages, setup
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


setup(
    name='gmconv_mmdet',
    version=runpy.run_path(str(ROOT / 'gmconv_mmdet' / 'version.py'))['__version__'],
    description='GMConv (Gaussian Mask convolution, arXiv 2302.04544) for MMDetection 3.x',
    license='Apache-2.0',
    packages=find_packages(include=['gmconv_mmdet', 'gmconv_mmdet.*']),
    cmdclass={'build_py': BuildWithMim},
    classifiers=['Programming Language :: Python :: 3',
                 *(f'Programming Language :: Python :: 3.{minor}' for minor in range(8, 13))],
    python_requires='>=3.8',
    # Empty on purpose. torch and mmcv are builds for one CUDA and one Python, often made by hand:
    # no requirement of ours may let pip replace them. `python tools/doctor.py` tells what is
    # missing, `bash tools/setup_env.sh` makes an environment from nothing.
    install_requires=[],
    extras_require={
        'eval': ['faster-coco-eval'],
        'onnx': ['onnx', 'onnxruntime', 'onnxscript; python_version >= "3.9"'],
        'pretrain': ['safetensors'],
        'tests': ['hypothesis', 'pytest'],
    },
)
