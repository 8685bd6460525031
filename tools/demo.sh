#!/usr/bin/env bash
# Set the environment up if need be, then run the demo: a GMConv Faster R-CNN is trained from
# scratch and evaluated with mmdet's own tools, on images drawn on the spot.
#
#   bash tools/demo.sh [--work-dir DIR] [...]     --help shows all
#
# Images go to data/demo_shapes/, results to work_dirs/demo/, both in the project's folder. An
# interrupted run goes on when it is called again; a finished one is evaluated again. To train anew,
# name another --work-dir.
set -euo pipefail

unset CDPATH
REPO="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
PYTHON="$(bash "$REPO/tools/setup_env.sh" --print-python)"
exec "$PYTHON" "$REPO/tools/misc/demo.py" --data "$REPO/data/demo_shapes" \
    --work-dir "$REPO/work_dirs/demo" "$@"
