"""What is installed was pinned; nothing is downloaded unasked; no name becomes a command."""
from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from .hostile.files import STATE
from .hostile.outcome import tool

AWKWARD = 'it\'s "a" $(touch pwned) `touch pwned`; touch pwned & -x'


def tool_module(repo: Path, name: str):
    spec = importlib.util.spec_from_file_location(name, repo / 'tools' / 'dev' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_pin_has_its_hashes(repo):
    pins = tool_module(repo, 'pin_hashes').pins((repo / 'requirements/constraints.txt').read_text())
    lines = [line for line in (repo / 'requirements/hashes.txt').read_text().splitlines()
             if not line.startswith('#')]
    assert len(pins) == len(lines) > 100, 'make it again: python tools/dev/pin_hashes.py'
    for (name, same, version, marker), line in zip(pins, lines):
        pin, *digests = line.split(' --hash=')
        assert pin == f'{name}{same}{version}' + (f'; {marker}' if marker else '')
        assert digests and all(re.fullmatch('sha256:[0-9a-f]{64}', d) for d in digests), name


@pytest.mark.slow
def test_pip_refuses_a_file_that_is_not_the_pinned_one(tmp_path):
    wheel = tmp_path / 'pinned_thing-1.0-py3-none-any.whl'
    with zipfile.ZipFile(wheel, 'w') as archive:
        archive.writestr('pinned_thing.py', '')
        archive.writestr('pinned_thing-1.0.dist-info/METADATA',
                         'Metadata-Version: 2.1\nName: pinned-thing\nVersion: 1.0\n')
        archive.writestr('pinned_thing-1.0.dist-info/WHEEL',
                         'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
        archive.writestr('pinned_thing-1.0.dist-info/RECORD', '')
    right = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (tmp_path / 'constraints.txt').write_text('pinned-thing==1.0\n')
    for digest, status in ((right, 0), (right[::-1], 1)):
        (tmp_path / 'hashes.txt').write_text(f'pinned-thing==1.0 --hash=sha256:{digest}\n')
        done = subprocess.run(
            [sys.executable, '-m', 'pip', 'install', '--dry-run', '--no-index', '--find-links', '.',
             '--target', 'there', '-c', 'constraints.txt', '-c', 'hashes.txt', 'pinned-thing'],
            cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
    assert 'DO NOT MATCH THE HASHES' in done.stderr


OFFLINE = '''
import importlib, pkgutil, socket, sys
def refuse(*args, **kwargs):
    raise OSError('asked for the network')
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
import gmconv_mmdet
for module in pkgutil.walk_packages(gmconv_mmdet.__path__, 'gmconv_mmdet.'):
    importlib.import_module(module.name)
from mmengine.config import Config
from mmdet.registry import MODELS
from gmconv_mmdet.checkpoints import CheckpointError
from gmconv_mmdet.pretrained.publish import convert_backbone
cfg = Config.fromfile(sys.argv[1])
link = cfg.model.backbone.init_cfg.checkpoint
assert '://' in link, link
backbone = MODELS.build(cfg.model.backbone)
backbone.init_cfg = dict(type='GMPretrained', checkpoint=sys.argv[2])
MODELS.build(dict(cfg.model.backbone, freeze_masks=True))
gmconv_mmdet.load_pretrained(backbone, backbone.state_dict())
convert_backbone(sys.argv[2], sys.argv[3])
print('nothing asked for')
try:
    gmconv_mmdet.load_pretrained(backbone, link)
except CheckpointError as error:
    print('asked for by its link:', error)
'''


@pytest.mark.slow
def test_nothing_is_downloaded_unless_a_link_is_loaded(repo, tmp_path):
    torch.save(STATE, tmp_path / 'x.pth')
    config = repo / 'configs' / 'gmconv' / 'faster-rcnn_r50-gm-stem-l1_fpn_1x_coco.py'
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', OFFLINE, str(config), str(tmp_path / 'x.pth'),
         str(tmp_path / 'y.pth')], capture_output=True, text=True, cwd=tmp_path,
        env=dict(os.environ, TORCH_HOME=str(tmp_path / 'hub'), OMP_NUM_THREADS='1',
                 PYTHONPATH=str(repo)))
    assert done.returncode == 0, done.stderr
    unasked, asked = done.stdout.strip().splitlines()[-2:]
    assert unasked == 'nothing asked for'
    assert 'could not be downloaded' in asked and 'asked for the network' in asked


def dotted(node: ast.expr) -> str:
    return f'{dotted(node.value)}.{node.attr}' if isinstance(node, ast.Attribute) else getattr(node, 'id', '')


def test_no_code_runs_text_as_a_program(repo):
    """No shell, no eval, no pickle that runs code, in the package, the tools and set-up."""
    banned = {'eval', 'exec', 'os.system', 'os.popen', 'pickle.load', 'pickle.loads', 'yaml.load',
              'subprocess.getoutput', 'subprocess.getstatusoutput', 'tempfile.mktemp'}
    files = [repo / 'setup.py', *(repo / 'gmconv_mmdet').rglob('*.py'),
             *(repo / 'tools').rglob('*.py'), *(repo / 'configs').rglob('*.py')]
    found = []
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if not isinstance(node, ast.Call):
                continue
            called = dotted(node.func)
            options = {keyword.arg: getattr(keyword.value, 'value', '?') for keyword in node.keywords}
            if (called in banned or options.get('shell', False) is not False
                    or called == 'torch.load' and options.get('weights_only') is not True):
                found.append(f'{path.relative_to(repo)}:{node.lineno} {called}')
    assert not found


@pytest.mark.parametrize('script, first', [('demo.sh', 'demo.py'), ('run_tests.sh', '-m')])
def test_scripts_pass_awkward_names_on_as_they_are(repo, tmp_path, script, first):
    folder = tmp_path / AWKWARD.replace('/', '')
    tools = folder / 'tools'
    tools.mkdir(parents=True)
    shutil.copy(repo / 'tools' / script, tools)
    record = folder / 'python that records'
    record.write_text('#!/bin/sh\nprintf "%s\\0" "$@" >"$RECORDED"\n')
    record.chmod(0o755)
    (tools / 'setup_env.sh').write_text('printf "%s\\n" "$RECORD"\n')
    arguments = ['--data', AWKWARD, '-x y', '$HOME', '*', '']
    done = subprocess.run(['bash', str(tools / script), *arguments], cwd=tmp_path, text=True,
                          capture_output=True, env=dict(
                              os.environ, RECORD=str(record), RECORDED=str(tmp_path / 'recorded')))
    assert done.returncode == 0, done.stderr
    seen = (tmp_path / 'recorded').read_text().split('\0')[:-1]
    assert seen[-len(arguments):] == arguments and seen[0].endswith(first)
    assert not list(tmp_path.rglob('pwned'))


@pytest.mark.parametrize('name', [AWKWARD, '-x', 'two words', '$HOME', 'é\n'])
def test_tools_take_files_of_awkward_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    torch.save(STATE, f'{name}.pth')
    out = tool('model_converters/convert_backbone.py', '--to', 'plain', '--', f'{name}.pth',
               f'{name} out.pth')
    assert 'written' in out
    assert len(list(tmp_path.iterdir())) == 2 and not (tmp_path / 'pwned').exists()
