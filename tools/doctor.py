"""Check this Python environment part by part and print the fix for each fault.

    python tools/doctor.py [--json] [--environment]

Exit code 1 if something is broken, 0 otherwise (warnings included).
"""
import argparse
import importlib.util
import sys
from pathlib import Path


def load_doctor():
    """`gmconv_mmdet.doctor` without `gmconv_mmdet/__init__.py`, which imports torch and mmcv."""
    here = Path(__file__).resolve().parent
    # Beside tools/ in a checkout; above .mim/tools in an installed package.
    paths = [here.parent / 'gmconv_mmdet' / 'doctor.py', here.parents[1] / 'doctor.py']
    path = next(path for path in paths if path.exists())
    spec = importlib.util.spec_from_file_location('gmconv_mmdet_doctor', path)
    doctor = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(doctor)
    return doctor


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--json', action='store_true', help='print a list of objects')
    parser.add_argument('--environment', action='store_true',
                        help='check what the project builds on, and leave the project itself out')
    args = parser.parse_args()
    doctor = load_doctor()
    checks = doctor.environment_checks()
    if not args.environment:
        checks += doctor.project_checks()
    print(doctor.as_json(checks) if args.json else doctor.as_table(checks))
    return int(doctor.any_fault(checks))


if __name__ == '__main__':
    sys.exit(main())
