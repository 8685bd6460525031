"""Check this Python environment part by part and print the fix for each fault.

    python tools/doctor.py [--json] [--environment]

Exit code 1 if something is broken, 0 otherwise (warnings included). The same as
`python -m gmconv_mmdet.doctor`, which imports torch and mmcv first, if it can.
"""
import runpy
from pathlib import Path

if __name__ == '__main__':
    here = Path(__file__).resolve().parent
    # Beside tools/ in a checkout; above .mim/tools in an installed package.
    paths = [here.parent / 'gmconv_mmdet' / 'doctor.py', here.parents[1] / 'doctor.py']
    runpy.run_path(str(next(path for path in paths if path.exists())), run_name='__main__')
