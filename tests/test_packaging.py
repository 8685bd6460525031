"""The wheel, built and installed into a scratch folder."""
from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def wheel(tmp_path_factory) -> Path:
    """Built from what git would commit, as from a fresh clone."""
    repo = Path(__file__).resolve().parents[1]
    folder = tmp_path_factory.mktemp('packaging')
    copy = folder / 'a clone'
    files = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
                           cwd=repo, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split('\0')):
        if (repo / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((repo / name).read_bytes())
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-index',
                    '--no-build-isolation', '--wheel-dir', str(folder), str(copy)], check=True)
    assert not (copy / 'gmconv_mmdet' / '.mim').exists(), 'the build wrote into the source tree'
    return next(folder.glob('*.whl'))


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp('installed')
    subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index',
                    '--target', str(target), str(wheel)], check=True)
    return target


def test_installing_cannot_replace_torch_or_mmcv(wheel):
    with zipfile.ZipFile(wheel) as content:
        name = next(n for n in content.namelist() if n.endswith('.dist-info/METADATA'))
        metadata = email.message_from_bytes(content.read(name))
    requirements = metadata.get_all('Requires-Dist', [])
    assert all('extra ==' in line for line in requirements), requirements
    names = {re.match(r'[\w-]+', line)[0] for line in requirements}
    # timm and torchvision ask for torch.
    assert not names & {'torch', 'torchvision', 'timm', 'mmcv', 'mmdet', 'mmengine', 'mmpretrain'}
    assert metadata['Requires-Python'] == '>=3.8'


def test_wheel_carries_every_config_and_tool(repo, installed):
    mim = installed / 'gmconv_mmdet' / '.mim'
    for folder in ('configs', 'tools'):
        sources = {p.relative_to(repo) for p in (repo / folder).rglob('*.py')}
        if folder == 'tools':
            sources = {p for p in sources if p.parent.name != 'dev'}
        assert sources and sources == {p.relative_to(mim) for p in (mim / folder).rglob('*.py')}
    assert (mim / 'model-index.yml').is_file()
    # Shell scripts work in a checkout only; tests stay there.
    assert not list(installed.rglob('*.sh')) and not (installed / 'tests').exists()


def test_wheel_holds_every_module(repo, installed):
    sources = {p.relative_to(repo) for p in (repo / 'gmconv_mmdet').rglob('*.py')}
    assert sources == {p.relative_to(installed) for p in (installed / 'gmconv_mmdet').rglob('*.py')
                       if '.mim' not in p.parts}
    assert (installed / 'gmconv_mmdet' / 'py.typed').is_file()


def test_model_index_names_files_that_exist(installed):
    mim = installed / 'gmconv_mmdet' / '.mim'
    indices = [yaml.safe_load((mim / imported).read_text())
               for imported in yaml.safe_load((mim / 'model-index.yml').read_text())['Import']]
    assert len(indices) == 2
    for index in indices:
        collections = {collection['Name']: collection for collection in index['Collections']}
        assert index['Models']
        for model in index['Models']:
            assert (mim / model['Config']).is_file(), model['Config']
            assert Path(model['Config']).stem == model['Name']
            assert (mim / collections[model['In Collection']]['README']).is_file()


def test_installed_config_and_doctor_work_away_from_the_checkout(installed, tmp_path):
    mim = installed / 'gmconv_mmdet' / '.mim'
    config = mim / 'configs' / 'gmconv' / 'faster-rcnn_r50-gm-stem-l1-l4_fpn_1x_coco.py'
    code = ('import sys; from mmengine.config import Config; import gmconv_mmdet; '
            'assert gmconv_mmdet.__file__.startswith(sys.argv[2]), gmconv_mmdet.__file__; '
            'print(Config.fromfile(sys.argv[1]).model.backbone.type)')
    env = {**os.environ, 'PYTHONPATH': str(installed), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run([sys.executable, '-c', code, str(config), str(installed)], cwd=tmp_path,
                          env=env, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == 'GMResNet'
    done = subprocess.run([sys.executable, str(mim / 'tools' / 'doctor.py')], cwd=tmp_path,
                          env=env, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
