"""tools/dev/build_mmcv.py on a source package that stands in for mmcv: same name, same file layout and
output, two `compilations` of a moment each."""
from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

# Leaves a line in $LEDGER per compiled file; like ninja it skips what an earlier run compiled.
SETUP_PY = '''
import os, sys, time
from pathlib import Path
from setuptools import setup
if 'bdist_wheel' in sys.argv:
    print('ops', os.environ['MMCV_WITH_OPS'], 'cuda', os.environ['FORCE_CUDA'], flush=True)
    for i, name in enumerate(['nms.o', 'roi_align.o'], 1):
        if Path(name).exists():
            continue
        if os.environ.get('BREAK') == name:
            sys.exit(f'{name}: error: no such header')
        time.sleep(float(os.environ.get('SECONDS', 0)) if i == 2 else 0)
        Path(name).write_text('')
        with open(os.environ['LEDGER'], 'a') as ledger:
            ledger.write(f'{name}\\n')
        print(f'[{i}/2] c++ {name}', flush=True)
    Path('mmcv/_ext.so').write_text('')
setup(name='mmcv', version='2.1.0', packages=['mmcv'],
      package_data={'mmcv': ['*.so'] if os.environ.get('WITHOUT_OPS') is None else []})
'''
PKG_INFO = 'Metadata-Version: 2.1\nName: mmcv\nVersion: 2.1.0\n'


class Builder:
    def __init__(self, repo: Path, folder: Path) -> None:
        self.script = repo / 'tools' / 'dev' / 'build_mmcv.py'
        self.cache = folder / 'the user\'s cache'
        self.ledger = folder / 'ledger'
        self.constraints = folder / 'constraints.txt'
        self.constraints.write_text('# pins\nmmcv-lite==9\nmmcv==2.1.0\n')
        source = folder / 'mmcv-2.1.0'
        (source / 'mmcv').mkdir(parents=True)
        (source / 'mmcv' / '__init__.py').write_text('')
        (source / 'setup.py').write_text(SETUP_PY)
        (source / 'PKG-INFO').write_text(PKG_INFO)
        self.index = folder / 'index'
        self.index.mkdir()
        with tarfile.open(self.index / 'mmcv-2.1.0.tar.gz', 'w:gz') as archive:
            archive.add(source, source.name)

    def start(self, name: str = 'mmcv', **changes: str) -> subprocess.Popen:
        env = {**os.environ, 'XDG_CACHE_HOME': str(self.cache), 'LEDGER': str(self.ledger),
               'PIP_NO_INDEX': '1', 'PIP_FIND_LINKS': self.index.as_uri(),
               'CUDA_VISIBLE_DEVICES': '', **changes}
        return subprocess.Popen(
            [sys.executable, str(self.script), '--constraints', str(self.constraints), name],
            env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, **changes: str) -> tuple[int, str, str]:
        process = self.start(**changes)
        stdout, stderr = process.communicate()
        return process.returncode, stdout.strip(), stderr

    def compiled(self) -> list[str]:
        return self.ledger.read_text().split() if self.ledger.exists() else []

    def wait_for(self, compiled: int) -> None:
        for _ in range(1200):
            if len(self.compiled()) >= compiled:
                return
            time.sleep(0.05)
        pytest.fail(f'nothing compiled: {self.compiled()}')


@pytest.fixture
def builder(repo, tmp_path) -> Builder:
    return Builder(repo, tmp_path)


@pytest.fixture(scope='module')
def build_mmcv():
    path = Path(__file__).resolve().parents[1] / 'tools' / 'dev' / 'build_mmcv.py'
    spec = importlib.util.spec_from_file_location('build_mmcv', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_key_tells_apart_what_cannot_be_exchanged(build_mmcv):
    ampere = build_mmcv.Cuda('13.0', '8.0', '/usr/local/cuda')
    keys = {build_mmcv.wheel_key('mmcv', version, torch, cuda)
            for version in ('2.1.0', '2.2.0') for torch in ('2.12.0', '2.13.0')
            for cuda in (None, ampere, ampere._replace(version='12.8'),
                         ampere._replace(archs='8.0;9.0'))}
    assert len(keys) == 16
    assert all(not set(key) & set('/;:\\ ') for key in keys)
    python = 'cpython-{}{}'.format(*sys.version_info)
    assert build_mmcv.wheel_key('mmcv', '2.1.0', '2.13.0', None).startswith(
        f'mmcv-2.1.0_torch-2.13.0_cpu_{python}')


def test_cuda_build_is_for_the_cards_that_are_here(build_mmcv, monkeypatch):
    monkeypatch.setenv('CPPFLAGS', '-I/opt/include')
    env = build_mmcv.build_environment(build_mmcv.Cuda('13.0', '8.0;9.0', '/opt/cuda'))
    assert (env['FORCE_CUDA'], env['TORCH_CUDA_ARCH_LIST'], env['CUDA_HOME']) == (
        '1', '8.0;9.0', '/opt/cuda')
    assert env['CPPFLAGS'] == '-I/opt/include -g0'


@pytest.mark.slow
def test_builds_once_and_shows_progress(builder):
    status, wheel, stderr = builder.run()
    assert status == 0, stderr
    assert Path(wheel).is_file() and wheel.startswith(str(builder.cache))
    assert 'mmcv ops: 2 of 2 files' in stderr
    assert builder.compiled() == ['nms.o', 'roi_align.o']
    assert 'ops 1 cuda 0' in (Path(wheel).parent / 'build.log').read_text()
    assert builder.run() == (0, wheel, '')
    assert builder.compiled() == ['nms.o', 'roi_align.o']


@pytest.mark.slow
def test_failed_build_shows_the_log_and_the_next_call_goes_on(builder):
    status, wheel, stderr = builder.run(BREAK='roi_align.o')
    assert status == 1 and wheel == ''
    assert 'roi_align.o: error: no such header' in stderr and 'build.log' in stderr
    assert list(builder.cache.rglob('*.whl')) == []
    status, wheel, _ = builder.run()
    assert status == 0 and Path(wheel).is_file()
    assert builder.compiled() == ['nms.o', 'roi_align.o']


@pytest.mark.slow
def test_interrupted_build_leaves_no_wheel_and_the_next_call_goes_on(builder):
    process = builder.start(SECONDS='600')
    builder.wait_for(compiled=1)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert list(builder.cache.rglob('*.whl')) == []
    # The compiler went with it: nobody holds the lock.
    status, wheel, stderr = builder.run()
    assert status == 0 and 'Another build' not in stderr
    assert builder.compiled() == ['nms.o', 'roi_align.o']


@pytest.mark.slow
def test_build_without_ops_is_refused(builder):
    status, wheel, stderr = builder.run(WITHOUT_OPS='1')
    assert status == 1 and wheel == '' and 'without its compiled ops' in stderr
    assert list((builder.cache / 'gmconv_mmdet' / 'wheels').glob('*/*.whl')) == []
