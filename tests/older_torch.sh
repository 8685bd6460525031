#!/usr/bin/env bash
# Run tests with an older torch than the pinned one, in an environment of its own
# (.venv-torch<version>; mmcv's ops are compiled for it once). By hand: it takes long.
#
#   bash tests/older_torch.sh TORCH TORCHVISION PYTHON [pytest's arguments]
#   bash tests/older_torch.sh 2.6.0 0.21.0 python3.10 -m "not slow"
#
# Everything else has its pinned version, save what comes with torch (CUDA, triton, sympy).
set -euo pipefail

(($# >= 3)) || { sed -n '2,/^set -/{s/^# \{0,1\}//;/^set -/d;p;}' "${BASH_SOURCE[0]}" >&2; exit 2; }
TORCH="$1" TORCHVISION="$2" PYTHON="$3"
shift 3
cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV="$PWD/.venv-torch$TORCH"
PINS="$VENV/constraints.txt"
[[ -x "$VENV/bin/pip" ]] || "$PYTHON" -m venv "$VENV"
{
    grep -vE '^(torch|torchvision|triton|sympy|cuda-|nvidia-)' requirements/constraints.txt
    printf '%s\n' "torch===$TORCH" "torchvision===$TORCHVISION"
} >"$PINS"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONNOUSERSITE=1
pip_install() { "$VENV/bin/python" -m pip install --quiet "$@"; }
pip_install -c "$PINS" pip setuptools wheel
pip_install -c "$PINS" -r requirements/needs.txt
pip_install --no-deps --no-build-isolation -c "$PINS" -r requirements/default/openmmlab.txt
pip_install --no-deps --no-index "$("$VENV/bin/python" tools/build_mmcv.py --constraints "$PINS" mmcv)"
pip_install --no-deps --no-build-isolation -e .
MPLBACKEND=Agg exec "$VENV/bin/python" -m pytest "$@"
