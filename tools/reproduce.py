"""Does GMConv help on my data? And the tables of the GMConv paper. Trainings that survive any kill.

    python tools/reproduce.py run    --config my_config.py --against plain --seeds 0 1 2 --out RUNS
    python tools/reproduce.py report --out RUNS

train a config with GMConv and its plain twin, paired by seed, and report differences with
intervals. With ``--table V --data-root COCO`` instead of ``--config`` they run and report a table of
the paper. ``plan`` says what is left to do, ``check`` looks for problems and runs nothing. ``run``
may be stopped, killed and given again at any time. See docs/reproduce.md.
"""
import sys
import warnings

# MMEngine says so once a config: twenty times before the first line that matters.
warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

from gmconv_mmdet.lab.reproduce.cli import main  # noqa: E402

if __name__ == '__main__':
    sys.exit(main())
