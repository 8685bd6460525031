"""Tables III and V of the GMConv paper, from COCO 2017 to the finished report.

    python tools/reproduce.py plan   --table V --work-root W
    python tools/reproduce.py check  --table V --work-root W --data-root COCO --gpus 8
    python tools/reproduce.py run    --table V --work-root W --data-root COCO --gpus 8
    python tools/reproduce.py report --table V --work-root W

`run` may be stopped, killed and given again at any time. With `--rehearse`, given to all of them,
the same machinery runs small, in seconds a row, on any folder in COCO's format. See
docs/reproduce.md.
"""
import sys
import warnings

# MMEngine says so once a config: twenty times before the first line that matters.
warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

from gmconv_mmdet.reproduce.cli import main  # noqa: E402

if __name__ == '__main__':
    sys.exit(main())
