"""What an environment, or a config, needs to train; checked part by part, with the fix for each fault.

    python -m gmconv_mmdet.doctor [--json] [--environment]     # or tools/doctor.py
    python -m gmconv_mmdet.doctor CONFIG [--help]              # preflight of a config

Exit code 1 if something is broken, 0 otherwise (warnings included).
"""
# Of the standard library only: it has to run where torch or mmcv is missing or broken.
from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Callable, NamedTuple

OK, WARN, FAIL = 'ok', 'warn', 'fail'


class Check(NamedTuple):
    """One row of the report; `fix` is empty where nothing needs doing."""
    name: str
    status: str  # OK, WARN or FAIL
    found: str
    expected: str
    fix: str = ''


class Stack(NamedTuple):
    """Name and tried version of the distributions that are imported as mmcv, mmengine, ..."""
    mmcv: tuple[str, str]
    mmengine: tuple[str, str]
    mmdet: tuple[str, str]
    mmpretrain: tuple[str, str]


OPENMMLAB = Stack(('mmcv', '2.1.0'), ('mmengine', '0.10.7'), ('mmdet', '3.3.0'),
                  ('mmpretrain', '1.2.0'))
ONEDL = Stack(('onedl-mmcv', '2.3.6'), ('onedl-mmengine', '0.10.12'),
              ('onedl-mmdetection', '3.5.1'), ('onedl-mmpretrain', '1.3.6'))


class Pair(NamedTuple):
    """Versions that work together."""
    what: str
    python: str
    torch: str  # and torchvision
    numpy: str
    mmcv: str
    mmdet: str
    install: str


# The first needs no compiler. docs/tested_versions.md shows this table.
PAIRS = (
    Pair('nothing to compile', '3.8-3.11', '2.1.2 / 0.16.2', '< 2', '2.1.0', '3.3.0',
         'pip install torch==2.1.2 torchvision==0.16.2 "numpy<2" "setuptools<82" openmim; '
         'mim install mmcv==2.1.0; pip install mmengine==0.10.7 mmdet==3.3.0'),
    Pair('newest torch', '3.10-3.12', '2.13.0 / 0.28.0', 'any', '2.1.0, compiled', '3.3.0',
         'bash tools/setup_env.sh'),
    Pair('OneDL\'s continuation', '3.10-3.12', '2.13.0 / 0.28.0', 'any', 'onedl-mmcv 2.3.6',
         'onedl-mmdetection 3.5.1', 'bash tools/setup_env.sh --stack onedl'),
    Pair('oldest', '3.8-3.10', '1.13.1 / 0.14.1', '< 2', '2.0.1', '3.1.0',
         'pip install torch==1.13.1 torchvision==0.14.1 "numpy<2" "setuptools<82" openmim; '
         'mim install mmcv==2.0.1; pip install mmengine==0.10.7 mmdet==3.1.0'),
)
READY_MADE_UP_TO, COMPILES_UP_TO = (2, 1), (2, 13)  # torch, for mmcv 2.1.0

# Run in a process of their own: ops compiled against another torch can end the interpreter.
# A keypoint at (1, 1) of a 3x3 image of ones, all offsets 0: the 3x3 kernel of ones sums to 9.
OPS_SNIPPET = """
import torch
from mmcv.ops import deform_conv2d, nms
boxes = torch.tensor([[0., 0, 9, 9], [0, 0, 9, 8], [20, 20, 30, 30]], device='{device}')
kept = nms(boxes, torch.tensor([.9, .8, .7], device='{device}'), 0.5)[1].tolist()
one = torch.ones(1, 1, 3, 3, device='{device}')
total = deform_conv2d(one, torch.zeros(1, 18, 1, 1, device='{device}'), one).item()
assert kept == [0, 2] and total == 9, f'wrong results: nms {{kept}}, deform_conv2d {{total}}'
"""


def import_quietly(name: str) -> ModuleType:
    """Import without warnings; what a package prints goes to stderr, away from the report."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter('ignore')
        return importlib.import_module(name)


def installed_version(distribution: str) -> str:
    """As pip knows it, '' where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ''


def installed_stack() -> Stack:
    """OneDL's where one of its distributions is installed, else OpenMMLab's."""
    return ONEDL if any(installed_version(name) for name, _ in ONEDL) else OPENMMLAB


def stacks_check() -> Check:
    """Two distributions that are imported by one name overwrite each other's files."""
    both = [name for pair in zip(OPENMMLAB, ONEDL) for name, _ in pair
            if all(installed_version(other) for other, _ in pair)]
    if not both:
        name = 'OneDL' if installed_stack() is ONEDL else 'OpenMMLab'
        return Check('stack', OK, name, 'OpenMMLab or OneDL')
    installed = [name for stack in (OPENMMLAB, ONEDL) for name, _ in stack
                 if installed_version(name)]
    return Check('stack', FAIL, f'both {" and ".join(both)}', 'OpenMMLab or OneDL',
                 f'pip uninstall -y {" ".join(installed)}; then install those of one stack again')


def reason(error: BaseException) -> str:
    """An exception on one line."""
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text}' if text else type(error).__name__


def release(version: str) -> tuple[int, ...]:
    """Leading numbers of a version: '2.0.0rc4' and '2.0.0+cpu' are both (2, 0, 0)."""
    return tuple(int(n) for n in re.match(r'(\d+(\.\d+)*)?', version)[0].split('.') if n)


def module_check(name: str, module: str, fix: str, minimum: str = '', below: str = '',
                 probe: Callable[[ModuleType], object] = bool, missing: str = FAIL,
                 distribution: str = '') -> Check:
    """Import a module, compare its version with `minimum <= version < below` and run `probe` on it.

    Args:
        distribution: the name under which pip knows a module that has no `__version__`.
        missing: status where the module is not installed at all (a broken one always fails).
    """
    expected = ', '.join(filter(None, [minimum and f'>={minimum}', below and f'<{below}']))
    status, expected = FAIL, expected or 'imports'
    try:
        loaded = import_quietly(module)
        found = getattr(loaded, '__version__', '') or installed_version(distribution or module)
        probe(loaded)
        if release(minimum) <= release(found) and not (below and release(found) >= release(below)):
            return Check(name, OK, found, expected)
    # Whatever a broken package raises while it is imported, AssertionError of version checks too.
    except Exception as error:
        found = reason(error)
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            status, found = missing, 'not installed'
    return Check(name, status, found, expected, fix)


def python_check() -> Check:
    found, expected = '%d.%d.%d' % sys.version_info[:3], '3.8 to 3.13'
    fix = f'make an environment with Python {expected}; with 3.8 to 3.11 nothing is compiled'
    known = (3, 8) <= sys.version_info < (3, 14)
    status = OK if known else FAIL if sys.version_info < (3, 8) else WARN
    return Check('Python', status, found, expected, '' if known else fix)


def asserted_range(dependency: str) -> tuple[str, str]:
    """Lowest and first refused version of 'mmcv' or 'mmengine' in mmdet's own assert.

    Read from mmdet's source, since importing mmdet fails exactly where the range is not met.
    ('', '') where mmdet is not installed or has no such lines.
    """
    spec = importlib.util.find_spec('mmdet')
    if spec is None or spec.origin is None:
        return '', ''
    source = Path(spec.origin).read_text(encoding='utf-8')
    lowest, refused = (re.search(rf"^{dependency}_{end}_version = '([^']+)'", source, re.MULTILINE)
                       for end in ('minimum', 'maximum'))
    return lowest[1] if lowest else '', refused[1] if refused else ''


def mmcv_fix() -> str:
    """How to come by an mmcv that works with the torch that is installed, if there is one."""
    name, version = installed_stack().mmcv
    below, torch = asserted_range('mmcv')[1], installed_version('torch')
    if below and release(version) >= release(below):
        version = PAIRS[-1].mmcv
    first = f'pip uninstall -y {name} mmcv-lite; pip install "setuptools<82"'
    compiled = (f'{first} wheel ninja; MMCV_WITH_OPS=1 pip install --no-build-isolation '
                f'--no-cache-dir --no-binary {name} "{name}=={version}"')
    instead = (f'in a new environment (Python {PAIRS[0].python}), where nothing is compiled: '
               f'{PAIRS[0].install}')
    if not torch and sys.version_info < (3, 12) and installed_stack() is OPENMMLAB:
        return PAIRS[0].install
    if not torch or installed_stack() is ONEDL:
        return compiled
    if release(torch)[:2] <= READY_MADE_UP_TO:
        return f'{first} openmim; mim install {name}=={version}'
    if release(torch)[:2] <= COMPILES_UP_TO:
        return f'{compiled} (there is no ready-made mmcv for torch {torch}); or, {instead}'
    return (f'mmcv {version} does not compile on torch {torch}: take torch '
            f'{PAIRS[1].torch.split()[0]} and compile mmcv ({PAIRS[1].install}); or, {instead}')


def ops_run(device: str) -> str:
    """Run mmcv's compiled `nms` and `deform_conv2d` on a device; '' or what went wrong."""
    child = subprocess.run([sys.executable, '-c', OPS_SNIPPET.format(device=device)],
                           capture_output=True, text=True, errors='replace')
    if child.returncode == 0:
        return ''
    if child.returncode < 0:
        return f'the interpreter died of signal {-child.returncode}'
    return ' '.join((child.stderr.strip().splitlines() or ['no message'])[-1].split())


def ops_check() -> Check:
    fault = ops_run('cpu')
    return Check('mmcv ops', FAIL if fault else OK, fault or 'nms, deform_conv2d run on CPU',
                 'compiled for this torch', mmcv_fix() if fault else '')


def cuda_check() -> Check:
    """Fails only where torch has a GPU and mmcv has no ops for it: mmdet would break midway."""
    name, expected = 'CUDA', 'torch and mmcv agree'
    try:
        torch = import_quietly('torch')
        usable = torch.cuda.is_available()
    except Exception as error:
        return Check(name, WARN, reason(error), expected, 'see torch above')
    if not usable:
        return Check(name, OK, 'no usable GPU: runs on the CPU', expected)
    gpu = torch.cuda.get_device_name(0)
    fault = ops_run('cuda')
    if not fault:
        return Check(name, OK, f'{gpu}, mmcv ops run on it', expected)
    return Check(name, FAIL, f'{gpu}, but mmcv ops fail on it: {fault}', expected,
                 f'with the CUDA {torch.version.cuda} toolkit installed: '
                 + mmcv_fix().replace('MMCV_WITH_OPS=1', 'MMCV_WITH_OPS=1 FORCE_CUDA=1')
                 + '; or run on the CPU: export CUDA_VISIBLE_DEVICES=')


def _torchvision_nms(torchvision: ModuleType) -> None:
    torch = import_quietly('torch')
    import_quietly('torchvision.ops').nms(torch.zeros(1, 4), torch.zeros(1), 0.5)


def _coco_mask(pycocotools: ModuleType) -> None:
    numpy = import_quietly('numpy')
    import_quietly('pycocotools.mask').encode(numpy.zeros((2, 2), numpy.uint8, order='F'))


def environment_checks() -> list[Check]:
    """Everything this project builds on, and nothing of its own."""
    mmcv_range, mmengine_range = asserted_range('mmcv'), asserted_range('mmengine')
    (engine, engine_tried), (det, det_tried) = installed_stack()[1:3]
    numpy_below = '2' if () < release(installed_version('torch')) < (2, 3) else ''
    return [
        python_check(),
        module_check('torch', 'torch', 'install torch as https://pytorch.org/get-started says: '
                     f'{PAIRS[0].torch.split()[0]} is the one for which mmcv is ready-made',
                     minimum='1.13'),
        module_check('torchvision', 'torchvision', 'pip install --force-reinstall --no-deps the '
                     'torchvision made for your torch (https://pytorch.org/get-started)',
                     probe=_torchvision_nms),
        module_check('numpy', 'numpy', f'pip install "numpy{numpy_below and "<2"}"',
                     below=numpy_below),
        module_check('opencv', 'cv2', 'pip uninstall -y opencv-python; '
                     'pip install opencv-python-headless'),
        module_check('pycocotools', 'pycocotools', 'pip install --force-reinstall --no-deps '
                     'pycocotools', probe=_coco_mask, distribution='pycocotools'),
        module_check('pkg_resources', 'pkg_resources', 'pip install "setuptools<82"',
                     distribution='setuptools'),
        stacks_check(),
        module_check('mmengine', 'mmengine', f'pip install {engine}=={engine_tried}',
                     *mmengine_range),
        module_check('mmcv', 'mmcv', mmcv_fix(), *mmcv_range),
        ops_check(),
        module_check('mmdet', 'mmdet', f'pip install {det}=={det_tried}; if it refuses the mmcv or '
                     'mmengine above, mend that first', minimum='3.1', below='4.0'),
        module_check('mmpretrain', 'mmpretrain', f'pip install {installed_stack().mmpretrain[0]} '
                     '(only needed for classification configs)', minimum='1.0', missing=WARN),
        cuda_check(),
    ]


def project_fix() -> str:
    root = Path(__file__).resolve().parents[1]
    folder = root if (root / 'setup.py').exists() else 'the project\'s folder'
    return f'mend what is broken above; then: pip install --no-deps "{folder}"'


def registration_check(name: str, registry_module: str) -> Check:
    """Whether importing gmconv_mmdet puts `name` into the MODELS registry of `registry_module`."""
    try:
        import_quietly('gmconv_mmdet')
        layer = import_quietly(registry_module).MODELS.get(name)
        found = layer and f'{layer.__module__}.{layer.__qualname__}'
    except Exception as error:
        layer, found = None, reason(error)
    return Check(name, OK if layer else FAIL, found or 'not registered',
                 f'registered in {registry_module}.MODELS', '' if layer else project_fix())


def project_checks() -> list[Check]:
    """Whether this project imports and its names are where configs look for them."""
    return [
        module_check('gmconv_mmdet', 'gmconv_mmdet', project_fix()),
        registration_check('GMConv', 'mmengine.registry'),
        registration_check('GMResNet', 'mmdet.registry'),
    ]


def pairs_table() -> str:
    """PAIRS as Markdown."""
    rows = [('', 'Python', 'torch / torchvision', 'numpy', 'mmcv', 'mmdet', 'install'),
            ('---', ) * 7, *(pair[:-1] + (f'`{pair.install}`', ) for pair in PAIRS)]
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def as_table(checks: list[Check]) -> str:
    """Rows of name, status, found and expected, then the fix of each row that has one."""
    rows = [('', 'status', 'found', 'expected')]
    rows += [(c.name, c.status, shortened(c.found), c.expected) for c in checks]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ['  '.join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]).rstrip()
             for row in rows]
    for check in checks:
        if check.fix:
            lines += ['', f'{check.name} ({check.status}): {check.found}', f'  fix: {check.fix}']
    if any_fault(checks):
        lines += ['', 'Versions that work together:', pairs_table()]
    return '\n'.join(lines)


def shortened(text: str, width: int = 48) -> str:
    return text if len(text) <= width else text[:width - 3] + '...'


def any_fault(checks: list[Check]) -> bool:
    return any(check.status == FAIL for check in checks)


def explain() -> str:
    """What is broken in the environment, with the fix for each fault; empty where nothing is."""
    faults = [check for check in environment_checks() if check.status == FAIL]
    return '\n'.join(['gmconv_mmdet needs a working MMDetection, and here it is broken:',
                      *(f'{c.name}: {c.found} (expected: {c.expected})\n  fix: {c.fix}' for c in faults),
                      '`python -m gmconv_mmdet.doctor` tells more']) if faults else ''


def check_config(arguments: list[str]) -> int:
    """The preflight of a config, which needs a sound environment; returns the exit status."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            from gmconv_mmdet.preflight.command import main as preflight
    except Exception as error:
        # What the import of a broken environment says has lines; the first tells what is wrong.
        sys.stdout.write(f'fault  environment    {reason(error)[:400]}. `python -m '
                         'gmconv_mmdet.doctor` without a config tells what to install\n')
        return 1
    return preflight(arguments)


def main() -> int:
    if 'gmconv_mmdet' in sys.modules:
        # `python -m` has imported the package, perhaps half of it: look with a fresh interpreter.
        code = f'import runpy; runpy.run_path({__file__!r}, run_name="__main__")'
        return subprocess.call([sys.executable, '-c', code, *sys.argv[1:]])
    if sys.argv[1:] and not sys.argv[1].startswith('-'):
        return check_config(sys.argv[1:])
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog='doctor.py CONFIG checks a config of mmdet instead: '
        'data, classes, start weights, a training step, an evaluated image (doctor.py CONFIG --help)')
    parser.add_argument('--json', action='store_true', help='print a list of objects')
    parser.add_argument('--environment', action='store_true',
                        help='check what the project builds on, and leave the project itself out')
    args = parser.parse_args()
    checks = environment_checks() + ([] if args.environment else project_checks())
    print(json.dumps([check._asdict() for check in checks], indent=2) if args.json
          else as_table(checks))
    return int(any_fault(checks))


if __name__ == '__main__':
    sys.exit(main())
