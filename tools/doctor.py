"""Check this Python environment, or a config before it trains, and print the fix for each fault.

    python tools/doctor.py [--json] [--environment]
    python tools/doctor.py CONFIG [--checkpoint FILE] [--check-images all] [--no-trial]

With a config of mmdet: classes against annotations and heads, files, images and boxes, start weights,
what keeps a network from learning, one real training step and one evaluated image; one line a finding
(docs/preflight.md). Exit code 1 if something is broken, 0 otherwise (warnings and notes included). The
same as `python -m gmconv_mmdet.doctor`, which imports torch and mmcv first, if it can.
"""
import runpy
from pathlib import Path

if __name__ == '__main__':
    here = Path(__file__).resolve().parent
    # Beside tools/ in a checkout; above .mim/tools in an installed package.
    paths = [here.parent / 'gmconv_mmdet' / 'doctor.py', here.parents[1] / 'doctor.py']
    runpy.run_path(str(next(path for path in paths if path.exists())), run_name='__main__')
