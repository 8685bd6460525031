"""What the import needs: torch alone for the core, and one clear error where OpenMMLab is broken."""
from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# What the core is for, outside OpenMMLab: convert, train, fold, save, load.
IN_TORCH_ALONE = '''
import sys
import torch, torch.nn as nn
absent = []
for name in ('numpy', 'torchvision', 'mmengine', 'mmcv', 'mmdet', 'timm'):
    try:
        __import__(name)
    except ImportError:
        absent.append(name)
assert len(absent) == 6, absent

import gmconv_mmdet
from gmconv_mmdet import *
from gmconv_mmdet import (GMConv2d, RefConv2d, conversion_report, convert_gmconv, fold_gmconv,
                          gaussian_mask, load_pretrained)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (out + self.downsample(x)).relu()


class ResNet(nn.Module):
    """With torchvision's names."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(Block(8, 8, 1), Block(8, 8, 1))
        self.layer2 = nn.Sequential(Block(8, 16, 2))
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = self.layer2(self.layer1(self.bn1(self.conv1(x)).relu()))
        return self.fc(x.mean((2, 3)))


torch.manual_seed(0)
plain = ResNet().eval()
images = torch.randn(4, 3, 32, 32)
net = convert_gmconv(plain)
assert len(conversion_report(net).converted) == 7, conversion_report(net)
torch.testing.assert_close(net(images), plain(images), rtol=1e-4, atol=1e-5)

net.train()
nn.functional.cross_entropy(net(images), torch.arange(4)).backward()
masks = {n: p for n, p in net.named_parameters() if 'sigma' in n}
assert len(masks) == 9 and all(p.grad.isfinite().all() for p in masks.values())
torch.optim.SGD(net.parameters(), 0.1).step()

static = convert_gmconv(plain, stem='static').eval()
static.layer1[0].conv1.sigma.data.fill_(0.8)
folded = fold_gmconv(static)
stock = ResNet().eval()
stock.load_state_dict(folded.state_dict())
torch.testing.assert_close(stock(images), static(images), rtol=1e-5, atol=1e-6)

folder = sys.argv[1]
for zipped in (True, False):
    torch.save(net.state_dict(), f'{folder}/net.pth', _use_new_zipfile_serialization=zipped)
    other = convert_gmconv(ResNet())
    report = load_pretrained(other, f'{folder}/net.pth')
    assert not report.initialized and not report.ignored, report
    torch.testing.assert_close(other.eval()(images), net.eval()(images))

assert gaussian_mask((3, 3), torch.tensor([5.])).shape == (3, 3)
assert GMConv2d(3, 4, 3, dynamic=True)(images).shape == (4, 4, 30, 30)
assert RefConv2d(3, 4, 3).eval()(images).shape == (4, 4, 30, 30)
assert gmconv_mmdet.analyze_receptive_field(plain, (32, 32)).layers
for name, says in (('GMResNet', 'mmdet'), ('area_ratio', 'numpy')):
    try:
        getattr(gmconv_mmdet, name)
    except ImportError as error:
        assert name in str(error) and says in str(error) and 'not installed' in str(error), error
    else:
        raise AssertionError(name)
try:
    load_pretrained(net, sys.argv[2])
except ValueError as error:
    assert 'holds arrays or numbers of numpy, and numpy is not installed' in str(error), error
else:
    raise AssertionError('read numpy\\'s arrays without numpy')
print('all of it works')
'''


def torch_and_its_dependencies() -> set[Path]:
    """The files and folders at the top of site-packages that ``pip install torch`` puts there."""
    found: set[Path] = set()
    waiting, seen = ['torch'], set()
    while waiting:
        name = waiting.pop()
        if name.lower() in seen:
            continue
        seen.add(name.lower())
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # of another platform
            continue
        for file in distribution.files or ():
            if file.parts[0] not in ('..', '__pycache__'):
                found.add(Path(distribution.locate_file(file.parts[0])))
        waiting += [re.match(r'[\w.-]+', line)[0] for line in distribution.requires or ()
                    if 'extra ==' not in line]
    return found


@pytest.fixture
def torch_alone(tmp_path) -> Path:
    """The interpreter of an environment with torch, its dependencies and nothing else."""
    folder = tmp_path / 'torch alone'
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    site_packages, = folder.glob('lib/python3*/site-packages')
    for path in torch_and_its_dependencies():
        (site_packages / path.name).symlink_to(path)
    return folder / 'bin' / 'python'


def run(python: Path | str, *arguments, path: str, **env) -> subprocess.CompletedProcess:
    return subprocess.run([str(python), *map(str, arguments)], text=True, capture_output=True,
                          env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1', **env})


def test_the_core_works_with_torch_alone(torch_alone, repo, tmp_path):
    numpy, torch = pytest.importorskip('numpy'), pytest.importorskip('torch')
    with_arrays = tmp_path / 'arrays.pth'
    torch.save(dict(state_dict={}, mean=numpy.zeros(3)), with_arrays)
    (tmp_path / 'program.py').write_text(IN_TORCH_ALONE)
    done = run(torch_alone, tmp_path / 'program.py', tmp_path, with_arrays, path=str(repo))
    assert done.returncode == 0 and 'all of it works' in done.stdout, done.stderr


@pytest.mark.parametrize('fault', [
    "raise ImportError('libc10_cuda.so: cannot open shared object file')\n",
    "__version__ = '2.2.0'\n"], ids=['broken', 'too new and empty'])
def test_a_broken_openmmlab_is_one_error_with_the_fix(repo, tmp_path, fault):
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').write_text(fault)
    done = run(sys.executable, '-c', 'import gmconv_mmdet', path=f'{tmp_path}{os.pathsep}{repo}')
    assert done.returncode == 1
    assert done.stderr.count('Traceback') == 1, done.stderr
    assert 'During handling' not in done.stderr and 'direct cause' not in done.stderr
    error = done.stderr[done.stderr.index('\nImportError: '):]
    assert 'gmconv_mmdet needs a working MMDetection, and here it is broken:' in error
    assert '\nmmcv' in error and '  fix: ' in error
    assert 'python -m gmconv_mmdet.doctor' in error
