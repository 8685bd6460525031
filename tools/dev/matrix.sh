#!/usr/bin/env bash
# Test this checkout in one column of the version matrix, in an environment of its own. Afterwards
# docs/data/matrix/COLUMN.json says what was found, and docs/tested_versions.md is written anew.
#
#   bash tools/dev/matrix.sh COLUMN [--environment]
#
#   COLUMN           py311-torch2.13 py312-torch2.13 py313-torch2.13 onedl: tools/setup_env.sh makes it
#                    or a file of pins, requirements/columns/COLUMN.txt
#   --environment    make the environment, mmcv's wheel included, and stop
#
#   GMCONV_VENV      where the environment lies   (default: .venv-COLUMN in the project's folder)
#   GMCONV_PYTHON    interpreter to make it with  (default: the column's version, from PATH)
#   XDG_CACHE_HOME   mmcv's compiled wheel is kept under it              (default: ~/.cache)
set -euo pipefail

unset CDPATH PYTHONHOME PYTHONPATH
export PYTHONNOUSERSITE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
REPO="$PWD" COLUMN="${1-}"
[[ -n "$COLUMN" ]] || { sed -n '2,/^set -/{s/^# \{0,1\}//;/^set -/d;p;}' "${BASH_SOURCE[0]}" >&2; exit 2; }
VENV="${GMCONV_VENV:-$REPO/.venv-$COLUMN}"
PY="$VENV/bin/python"

pinned_environment() {
    local pins="requirements/columns/$COLUMN.txt" digits="${COLUMN%%-*}"
    digits="${digits#py}"  # py38, py310
    local python="${GMCONV_PYTHON:-python${digits:0:1}.${digits:1}}"
    [[ -f "$pins" ]] || { echo "No column '$COLUMN': there is no $pins." >&2; exit 2; }
    [[ -x "$VENV/bin/pip" ]] || "$python" -m venv "$VENV"
    "$PY" -m pip install --quiet --upgrade -c "$pins" pip setuptools wheel
    "$PY" -m pip install --quiet -c "$pins" -r requirements/needs.txt
    "$PY" -m pip install --quiet --no-deps --no-build-isolation -c "$pins" -r requirements/default/openmmlab.txt
    echo "mmcv with its compiled ops"
    local wheel
    wheel="$("$PY" tools/dev/build_mmcv.py --constraints "$pins" mmcv)"
    "$PY" -m pip install --quiet --no-deps --no-index --force-reinstall "$wheel"
}

case "$COLUMN" in
    onedl) GMCONV_VENV="$VENV" bash tools/setup_env.sh --stack onedl ;;
    *-torch2.13)
        digits="${COLUMN%%-*}" digits="${digits#py}"
        GMCONV_VENV="$VENV" GMCONV_PYTHON="${GMCONV_PYTHON:-python${digits:0:1}.${digits:1}}" \
            bash tools/setup_env.sh ;;
    *) pinned_environment ;;
esac
[[ "${2-}" != --environment ]] || exit 0
"$PY" tools/dev/matrix_check.py "$COLUMN" || status=$?
"$PY" tools/dev/matrix_page.py
exit "${status:-0}"
