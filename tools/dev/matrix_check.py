"""Check this checkout with the Python that runs this, and write what was found to a JSON file.

    .venv-py38-torch2.1/bin/python tools/dev/matrix_check.py py38-torch2.1

Called by tools/dev/matrix.sh. Three checks: `pip install .` changes no package that was there; the
fast part of the tests; a short demo with the installed package and mmdet's own tools: train, kill,
resume, test.
"""
from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
SHOWN = ('torch', 'torchvision', 'mmcv', 'mmdet', 'mmengine', 'mmpretrain', 'numpy', 'setuptools',
         'opencv-python-headless', 'pycocotools', 'onnx', 'onnxruntime', 'pytest', 'hypothesis')
ONEDL = dict(mmcv='onedl-mmcv', mmdet='onedl-mmdetection', mmengine='onedl-mmengine',
             mmpretrain='onedl-mmpretrain')


class CheckError(Exception):
    """A check could not be done; the text says which and where its log is."""


def installed() -> dict[str, str]:
    """Version of each installed package, this project left out. Asks a fresh interpreter."""
    code = ('import importlib.metadata as m, json; print(json.dumps({d.metadata["Name"].lower(): '
            'd.version for d in m.distributions()}))')
    done = subprocess.run([sys.executable, '-I', '-c', code], stdout=subprocess.PIPE, check=True)
    return {name: version for name, version in json.loads(done.stdout).items()
            if name.replace('-', '_') != 'gmconv_mmdet'}


def run(command: list[str], log: Path, **options) -> int:
    with open(log, 'ab') as out:
        return subprocess.run(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                              **options).returncode


def check_install(logs: Path) -> dict:
    """`pip install .`, as a user types it."""
    before = installed()
    status = run([sys.executable, '-m', 'pip', 'install', '.'], logs / 'install.log', cwd=REPO)
    if status:
        raise CheckError(f'pip install . failed: {logs / "install.log"}')
    after = installed()
    return dict(changed=sorted(name for name in {*before, *after}
                               if before.get(name) != after.get(name)))


def check_tests(logs: Path) -> dict:
    """All tests but the nightly part, from the checkout."""
    report = logs / 'tests.xml'
    start = time.monotonic()
    status = run(
        [sys.executable, '-X', 'faulthandler', '-m', 'pytest', '-n', '2', '--dist', 'worksteal',
         f'--junitxml={report}'],
        logs / 'tests.log', cwd=REPO,
        env=dict(os.environ, MPLBACKEND='Agg', PYTHONWARNINGS='ignore'))
    if not report.exists():
        raise CheckError(f'pytest did not finish (exit status {status}): {logs / "tests.log"}')
    failed, reasons, total = [], Counter(), 0
    for case in ElementTree.parse(str(report)).iter('testcase'):
        total += 1
        name = f'{case.get("classname")}::{case.get("name")}'
        if case.find('failure') is not None or case.find('error') is not None:
            failed.append(name)
        elif case.find('skipped') is not None:
            reasons[case.find('skipped').get('message')] += 1
    skipped = sum(reasons.values())
    return dict(passed=total - len(failed) - skipped, failed=len(failed), skipped=skipped,
                failures=sorted(failed), reasons=dict(sorted(reasons.items())),
                seconds=round(time.monotonic() - start))


def check_demo(folder: Path, logs: Path) -> dict:
    """Two epochs of the demo by mmdet's tools: killed after the first, resumed, evaluated. Runs
    outside the checkout, so with the installed package."""
    start = time.monotonic()
    data, work = folder / 'shapes', folder / 'work'
    env = dict(os.environ, GMCONV_DEMO_DATA=str(data), MPLBACKEND='Agg')
    log = logs / 'demo.log'
    draw = ('import pathlib, sys; from gmconv_mmdet.lab.demo.shapes import make_shapes; '
            'make_shapes(pathlib.Path(sys.argv[1]), 24, 8)')
    mmdet, ours = (subprocess.run(
        [sys.executable, '-c', f'import {name}; print({name}.__path__[0])'], cwd=folder,
        stdout=subprocess.PIPE, check=True).stdout.decode().splitlines()[-1]
        for name in ('mmdet', 'gmconv_mmdet'))
    if Path(ours).parent == REPO:
        raise CheckError(f'gmconv_mmdet was imported from the checkout, {ours}, not as installed')
    config = str(Path(ours, '.mim/configs/demo/faster-rcnn_r18-gm_fpn_shapes.py'))
    tools = Path(mmdet, '.mim', 'tools')
    train = [sys.executable, str(tools / 'train.py'), config, '--work-dir', str(work),
             '--cfg-options', 'train_cfg.max_epochs=2', 'train_cfg.val_interval=2',
             'default_hooks.logger.interval=1']
    if run([sys.executable, '-c', draw, str(data)], log, cwd=folder, env=env):
        raise CheckError(f'the images could not be drawn: {log}')
    with open(log, 'ab') as out:
        first = subprocess.Popen(train, cwd=folder, env=env, stdout=out, stderr=out)
    while first.poll() is None and not (work / 'last_checkpoint').exists():
        time.sleep(0.2)
    first.kill()
    first.wait()
    if not (work / 'epoch_1.pth').exists():
        raise CheckError(f'the first training left no epoch_1.pth: {log}')
    resumed_at = log.stat().st_size
    if run([*train, '--resume'], log, cwd=folder, env=env):
        raise CheckError(f'the training could not be resumed: {log}')
    with open(log, 'rb') as file:
        file.seek(resumed_at)
        text = file.read().decode(errors='replace')
    if not re.search(r'[Rr]esumed epoch: 1', text):
        raise CheckError(f'the second training did not resume at epoch 1: {log}')
    if run([sys.executable, str(tools / 'test.py'), config, str(work / 'epoch_2.pth'),
            '--work-dir', str(folder / 'test')], log, cwd=folder, env=env):
        raise CheckError(f'the test failed: {log}')
    result = json.loads(max((folder / 'test').glob('*/*.json')).read_text())
    return dict(resumed_at_epoch=1, epochs=2, metrics=sorted(result),
                seconds=round(time.monotonic() - start))


def git(*arguments: str) -> str:
    done = subprocess.run(['git', *arguments], cwd=REPO, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('column', help='its name in docs/data/matrix/')
    column = parser.parse_args().column
    logs = REPO / 'work_dirs' / 'matrix' / column
    logs.mkdir(parents=True, exist_ok=True)
    for log in logs.glob('*.*'):
        log.unlink()
    commit = git('rev-parse', '--short=10', 'HEAD')
    changed = git('status', '--porcelain', '--untracked-files=no', '--', '.', ':!docs')
    versions = {}
    for name in SHOWN:
        for package in (ONEDL.get(name, name), name):
            if package not in versions:
                try:
                    versions[package] = importlib.metadata.version(package)
                    break
                except importlib.metadata.PackageNotFoundError:
                    continue
    found = dict(column=column, commit=commit + ('+changes' if changed else ''),
                 python=platform.python_version(),
                 system=f'{platform.system()} {platform.machine()}, {os.cpu_count()} cores',
                 versions=versions)
    try:
        found['install'] = check_install(logs)
        print('install:', found['install'], flush=True)
        with tempfile.TemporaryDirectory() as folder:
            found['demo'] = check_demo(Path(folder), logs)
        print('demo:', found['demo'], flush=True)
        found['tests'] = check_tests(logs)
        print('tests:', found['tests'], flush=True)
    except CheckError as error:
        print(error, file=sys.stderr)
        return 1
    target = REPO / 'docs' / 'data' / 'matrix' / f'{column}.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found, indent=2) + '\n')
    return int(bool(found['tests']['failed'] or found['install']['changed']))


if __name__ == '__main__':
    sys.exit(main())
