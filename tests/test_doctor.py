"""gmconv_mmdet/doctor.py, in this environment and in ones broken on purpose."""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gmconv_mmdet import doctor

ONEDL = doctor.installed_stack() is doctor.ONEDL


def run_doctor(repo: Path, *args: str, cwd: Path, broken: Path | None = None):
    """`tools/doctor.py` in a fresh process; modules in `broken` go before the installed ones."""
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(broken or '')}
    return subprocess.run([sys.executable, str(repo / 'tools' / 'doctor.py'), *args], cwd=cwd,
                          env=env, text=True, capture_output=True)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.slow
def test_sound_environment(repo, tmp_path):
    done = run_doctor(repo, '--json', cwd=tmp_path)
    checks = {row['name']: row for row in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert {row['status'] for row in checks.values()} <= {doctor.OK, doctor.WARN}
    # Only OpenMMLab's mmdet asserts a range.
    assert checks['mmcv']['expected'] == ('imports' if ONEDL else '>=2.0.0rc4, <2.2.0')
    assert checks['stack']['found'] == ('OneDL' if ONEDL else 'OpenMMLab')
    assert checks['mmcv ops']['found'] == 'nms, deform_conv2d run on CPU'
    assert checks['GMConv']['expected'] == 'registered in mmengine.registry.MODELS'
    assert checks['GMResNet']['expected'] == 'registered in mmdet.registry.MODELS'
    assert all(not row['fix'] for row in checks.values() if row['status'] == doctor.OK)


@pytest.mark.slow
def test_each_fault_is_a_row_with_its_fix(repo, tmp_path):
    """Broken: mmcv too new (for OpenMMLab's mmdet) and empty, pkg_resources and pycocotools gone,
    torchvision's library missing."""
    broken = write(tmp_path / 'broken', {
        'mmcv/__init__.py': "__version__ = '2.2.0'\n",
        'pkg_resources.py': "raise ModuleNotFoundError('gone', name='pkg_resources')\n",
        'pycocotools/__init__.py': "raise ModuleNotFoundError('gone', name='pycocotools')\n",
        'torchvision.py': "raise OSError('libtorch.so: cannot open\\nshared object file')\n"})
    done = run_doctor(repo, cwd=tmp_path, broken=broken)
    assert done.returncode == 1
    assert 'Traceback' not in done.stdout + done.stderr
    table, fixes = done.stdout.split('\n\n', 1)
    rows = {line[:15].strip(): line for line in table.splitlines()[1:]}
    assert rows['mmcv'].split()[1:3] == ['ok' if ONEDL else 'fail', '2.2.0']
    for name in ('mmcv ops', *(() if ONEDL else ('mmdet', )), 'pkg_resources', 'pycocotools',
                 'torchvision', 'GMConv'):
        assert ' fail ' in rows[name], rows[name]
    for name in ('Python', 'torch', 'numpy', 'opencv', 'mmengine'):
        assert ' ok ' in rows[name], rows[name]
    assert 'pip install "setuptools<82"' in fixes
    assert ('--no-binary onedl-mmcv "onedl-mmcv==2.3.6"' if ONEDL else
            '--no-binary mmcv "mmcv==2.1.0"') in fixes
    assert 'Versions that work together:\n' + doctor.pairs_table() in fixes
    assert 'OSError: libtorch.so: cannot open shared object file' in fixes


@pytest.mark.slow
def test_a_mixture_of_stacks_is_a_fault(repo, tmp_path):
    other, version = doctor.OPENMMLAB.mmcv if ONEDL else doctor.ONEDL.mmcv
    broken = write(tmp_path / 'other', {
        f'{other.replace("-", "_")}-{version}.dist-info/METADATA':
            f'Metadata-Version: 2.1\nName: {other}\nVersion: {version}\n'})
    done = run_doctor(repo, '--environment', '--json', cwd=tmp_path, broken=broken)
    stack = {row['name']: row for row in json.loads(done.stdout)}['stack']
    assert done.returncode == 1 and stack['status'] == doctor.FAIL
    assert stack['found'] == 'both mmcv and onedl-mmcv'
    assert stack['fix'].startswith('pip uninstall -y') and other in re.split('[ ;]', stack['fix'])


@pytest.mark.slow
def test_environment_option_leaves_the_project_out(repo, tmp_path):
    broken = write(tmp_path / 'broken', {'gmconv_mmdet/__init__.py': 'raise RuntimeError\n'})
    done = run_doctor(repo, '--environment', cwd=tmp_path, broken=broken)
    assert done.returncode == 0 and 'gmconv' not in done.stdout.lower()


@pytest.mark.slow
@pytest.mark.parametrize('files', [{}, {'mmdet/__init__.py': "raise AssertionError('mmcv 2.2')\n"},
                                   {'torch.py': "raise OSError('libtorch.so')\n"}])
def test_run_as_a_module(repo, tmp_path, files):
    """Though ``python -m`` imports the package first, which the broken ones end."""
    broken = write(tmp_path / 'broken', files)
    env = {**os.environ, 'PYTHONPATH': f'{broken}{os.pathsep}{repo}'}
    done = subprocess.run([sys.executable, '-m', 'gmconv_mmdet.doctor', '--json'], env=env,
                          cwd=tmp_path, text=True, capture_output=True)
    checks = {row['name']: row for row in json.loads(done.stdout)}
    assert done.returncode == bool(files) and 'Traceback' not in done.stderr
    assert checks['GMResNet']['status'] == ('fail' if files else 'ok')
    for name, text in (('mmdet', 'mmcv 2.2'), ('torch', 'libtorch.so')):
        assert (text in checks[name]['found']) is any(name in file for file in files)


@pytest.mark.parametrize('torch, range_, expected', [
    ('2.1.2', ('2.0.0rc4', '2.2.0'), 'mim install mmcv==2.1.0'),
    ('1.13.1+cpu', ('2.0.0rc4', '2.1.0'), 'mim install mmcv==2.0.1'),
    ('2.2.0', ('2.0.0rc4', '2.2.0'), 'there is no ready-made mmcv for torch 2.2.0'),
    ('2.13.0+cu130', ('', ''), '--no-binary mmcv "mmcv==2.1.0"'),
    ('2.15.0', ('2.0.0rc4', '2.2.0'), 'mmcv 2.1.0 does not compile on torch 2.15.0: take torch '
                                      '2.13.0')])
def test_the_mmcv_that_goes_with_a_torch(monkeypatch, torch, range_, expected):
    monkeypatch.setattr(doctor, 'installed_version', lambda name: (
        torch if name == 'torch' else ''))
    monkeypatch.setattr(doctor, 'asserted_range', lambda name: range_)
    assert expected in doctor.mmcv_fix()
    if doctor.release(torch) >= (2, 2):
        assert doctor.PAIRS[0].install in doctor.mmcv_fix()


@pytest.mark.parametrize('version, status', [
    ((3, 7, 9), doctor.FAIL), ((3, 8, 0), doctor.OK), ((3, 13, 2), doctor.OK),
    ((3, 14, 0), doctor.WARN)])
def test_python_versions(monkeypatch, version, status):
    monkeypatch.setattr(sys, 'version_info', version)
    assert doctor.python_check().status == status


def test_page_of_versions_shows_the_pairs(repo):
    page = (repo / 'docs' / 'tested_versions.md').read_text(encoding='utf-8')
    assert doctor.pairs_table() in page


def test_doctor_needs_the_standard_library_only(repo):
    """-I -S: neither installed packages nor this folder can be imported."""
    done = subprocess.run([sys.executable, '-I', '-S', str(repo / 'tools' / 'doctor.py'), '--help'],
                          text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_ops_that_kill_the_interpreter_are_a_fault(monkeypatch):
    monkeypatch.setattr(doctor, 'OPS_SNIPPET', 'import os; os.abort()')
    assert doctor.ops_run('cpu') == 'the interpreter died of signal 6'


@pytest.mark.parametrize('version, status', [
    ('1.9.9', doctor.FAIL), ('2.0', doctor.OK), ('2.13.0+cu130', doctor.OK), ('3.0', doctor.FAIL)])
def test_version_bounds(tmp_path, monkeypatch, version, status):
    write(tmp_path, {f'bounded_{version[0]}{version[2]}.py': f'__version__ = {version!r}\n'})
    monkeypatch.syspath_prepend(tmp_path)
    check = doctor.module_check('bounded', f'bounded_{version[0]}{version[2]}', 'the fix',
                                minimum='2.0', below='3.0')
    assert (check.status, check.found, check.expected) == (status, version, '>=2.0, <3.0')
    assert check.fix == ('' if status == doctor.OK else 'the fix')


def test_missing_inner_module_is_a_broken_package_not_an_absent_one(tmp_path, monkeypatch):
    write(tmp_path, {'half_there.py': 'import surely_absent\n'})
    monkeypatch.syspath_prepend(tmp_path)
    check = doctor.module_check('half', 'half_there', 'the fix', missing=doctor.WARN)
    assert check.status == doctor.FAIL and 'surely_absent' in check.found


@pytest.mark.parametrize('version, expected', [((3, 8, 0), doctor.PAIRS[0].install),
                                               ((3, 13, 0), '--no-binary mmcv "mmcv==2.1.0"')])
def test_without_torch_it_names_the_pair_that_needs_no_compiler(monkeypatch, version, expected):
    monkeypatch.setattr(doctor, 'installed_version', lambda name: '')
    monkeypatch.setattr(doctor, 'asserted_range', lambda name: ('', ''))
    monkeypatch.setattr(sys, 'version_info', version)
    assert expected in doctor.mmcv_fix()
