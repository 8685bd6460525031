#!/usr/bin/env bash
# Make a Python environment with one of two stacks and this project (editable). Run it again at any
# time: it goes on where it stopped, and does nothing where nothing is to do.
#
#   bash tools/setup_env.sh [--stack default|onedl] [--print-python]
#
#   --stack          default: OpenMMLab's mmcv, mmengine, mmdet, mmpretrain
#                    onedl: OneDL's continuations of them, imported by the same names
#   --print-python   print the environment's interpreter to stdout, and nothing when up to date
#                    (everything else goes to stderr), so that a script can say
#                    PYTHON="$(bash tools/setup_env.sh --print-python)"
#
#   GMCONV_VENV      where the environment lies            (default: .venv in the project's folder,
#                                                           .venv-onedl for the OneDL stack)
#   GMCONV_PYTHON    interpreter to make it with           (default: the first usable of python3,
#                                                           python3.11, python3.12, python3.10)
#   XDG_CACHE_HOME   mmcv's compiled wheel is kept under it                  (default: ~/.cache)
set -euo pipefail

exec 3>&1 1>&2
unset CDPATH PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX
export PYTHONNOUSERSITE=1 PIP_DISABLE_PIP_VERSION_CHECK=1

REPO="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
CONSTRAINTS="$REPO/requirements/constraints.txt"
HASHES="$REPO/requirements/hashes.txt"
PINS=(-c "$CONSTRAINTS" -c "$HASHES")
NEEDS=("$REPO/requirements/needs.txt")
STACK=default
UNFINISHED='unfinished: run tools/setup_env.sh again'
NEEDED_GIB=10       # measured: 5.5 in the environment, the rest for pip's downloads
NEEDED_GIB_AGAIN=2  # once torch is in
PRINT_PYTHON=false

say() { printf '%s\n' "$*"; }
fail() { printf '\nSet-up stopped: %s\n' "$*"; exit 1; }
interrupted() {
    trap - INT TERM HUP
    printf '\nSet-up interrupted. Run the same command again: it goes on where it stopped.\n'
    exit 130
}
trap interrupted INT TERM HUP

while (($#)); do
    case "$1" in
        --print-python) PRINT_PYTHON=true ;;
        --stack) STACK="${2-}"; shift ;;
        -h | --help) sed -n '2,/^set -/{s/^# \{0,1\}//;/^set -/d;p;}' "${BASH_SOURCE[0]}" >&3; exit 0 ;;
        *) fail "unknown argument '$1'. See: bash tools/setup_env.sh --help" ;;
    esac
    (($#)) && shift
done
case "$STACK" in
    default) VENV="$REPO/.venv" ;;
    onedl) VENV="$REPO/.venv-onedl" ;;
    *) fail "--stack is 'default' or 'onedl', not '$STACK'." ;;
esac
VENV="${GMCONV_VENV:-$VENV}"
[[ "$VENV" == /* ]] || VENV="$PWD/$VENV"
PY="$VENV/bin/python"
# Marks an environment as made here. Its text: what was installed and verified, or UNFINISHED.
STAMP="$VENV/.gmconv_setup"
[[ ! -f "$REPO/requirements/$STACK/needs.txt" ]] || NEEDS+=("$REPO/requirements/$STACK/needs.txt")
# Pure Python packages, and the one that is compiled here.
OPENMMLAB="$REPO/requirements/$STACK/openmmlab.txt"
SOURCE="$REPO/requirements/$STACK/source.txt"

finish() {
    if $PRINT_PYTHON; then printf '%s\n' "$PY" >&3; else say "Environment ready: $VENV"; fi
    exit 0
}

# Why interpreter $1 cannot be used; nothing if it can.
python_fault() {
    local version
    version="$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" \
        || { say 'does not run'; return; }
    case "$version" in
        3.10 | 3.11 | 3.12) ;;
        # mmcv 2.1.0 does not build on 3.13: its setup.py reads a name from locals() after exec.
        *) say "is Python $version"; return ;;
    esac
    "$1" -c 'import ensurepip, venv' 2>/dev/null \
        || { say "has no venv (Debian, Ubuntu: sudo apt install python$version-venv)"; return; }
    [[ -f "$(include_dir "$1")/Python.h" ]] \
        || say "has no C headers (Debian, Ubuntu: sudo apt install python$version-dev; Fedora: sudo dnf install python$version-devel)"
}

include_dir() { "$1" -c 'import sysconfig; print(sysconfig.get_paths()["include"])'; }

choose_python() {
    local candidates candidate fault tried=''
    candidates=(python3 python3.11 python3.12 python3.10)
    [[ -z "${GMCONV_PYTHON:-}" ]] || candidates=("$GMCONV_PYTHON")
    for candidate in "${candidates[@]}"; do
        command -v "$candidate" >/dev/null || { tried+=$'\n'"  $candidate: not found"; continue; }
        fault="$(python_fault "$candidate")"
        if [[ -z "$fault" ]]; then PYTHON="$candidate"; return; fi
        tried+=$'\n'"  $candidate: $fault"
    done
    fail "Python 3.10, 3.11 or 3.12 is needed, with its venv module and C headers. Tried:$tried
Install one of them, or name it: GMCONV_PYTHON=/path/to/python3.11 bash tools/setup_env.sh"
}

# CXX may hold a launcher or options ('ccache g++'): it is split into words on purpose.
compiles() {
    # shellcheck disable=SC2086
    printf '#include <filesystem>\n#include <Python.h>\nint main() { return 0; }\n' \
        | $1 -std=c++17 -fsyntax-only -I"$(include_dir "$PYTHON")" -x c++ - >/dev/null 2>&1
}

choose_compiler() {
    local compiler
    for compiler in ${CXX:+"$CXX"} c++ g++ clang++; do
        if compiles "$compiler"; then export CXX="$compiler"; return; fi
    done
    fail "no working C++17 compiler was found (tried ${CXX:+$CXX, }c++, g++, clang++), and mmcv's ops are compiled here.
Install one, then run this again:
  Debian, Ubuntu:  sudo apt install g++
  Fedora:          sudo dnf install gcc-c++
  macOS:           xcode-select --install"
}

free_gib() { df -Pk "$VENV" | awk 'END { for (i = NF; i > 1; i--) if ($i ~ /%$/) { print int($(i-1) / 1048576); exit } }'; }

check_disk() {
    local needed=$NEEDED_GIB free
    if compgen -G "$VENV/lib/python3*/site-packages/torch/version.py" >/dev/null; then needed=$NEEDED_GIB_AGAIN; fi
    free="$(free_gib || true)"
    [[ -z "$free" ]] || ((free >= needed)) || fail "$needed GiB of disk space are needed in $VENV, and $free GiB are free.
Free some, or name a folder on a larger disk: GMCONV_VENV=/path/to/new/folder bash tools/setup_env.sh"
}

# A new graphics card calls for mmcv's CUDA ops; a lost one calls for nothing.
gpu_state() {
    if [[ -e /dev/nvidiactl || -e /dev/dxg ]] && [[ -n "${CUDA_VISIBLE_DEVICES-all}" ]]; then
        say "gpu, nvcc in: ${CUDA_HOME:-$(command -v nvcc || true)}"
    else
        say 'no gpu'
    fi
}

# What the environment holds and what it was made from: changes when either does.
fingerprint() {
    "$PY" -I - "$REPO" "$VENV" "$REPO/setup.py" "$REPO/pyproject.toml" "$REPO/gmconv_mmdet/version.py" \
        "${BASH_SOURCE[0]}" "$REPO/tools/dev/build_mmcv.py" \
        "$CONSTRAINTS" "$HASHES" "${NEEDS[@]}" "$OPENMMLAB" "$SOURCE" <<'PYTHON'
import hashlib
import pathlib
import sys
import sysconfig
parts = [sys.version, *sys.argv[1:3]]
parts += [pathlib.Path(path).read_text(encoding='utf-8') for path in sys.argv[3:]]
parts += sorted(p.name for p in pathlib.Path(sysconfig.get_path('purelib')).glob('*.dist-info'))
print(hashlib.sha256('\0'.join(parts).encode()).hexdigest())
PYTHON
}

is_ready() {
    local gpu recorded
    [[ -f "$STAMP" && -x "$PY" ]] || return 1
    recorded="$(cat "$STAMP")"
    [[ "$recorded" != "$UNFINISHED" ]] || return 1
    [[ "${recorded%%$'\n'*}" == "$(fingerprint 2>/dev/null)" ]] || return 1
    gpu="$(gpu_state)"
    [[ "$gpu" == 'no gpu' || "$gpu" == "${recorded#*$'\n'}" ]]
}

# Two set-ups of one environment take turns. The lock is on the folder, by way of descriptor 9, and
# ends with the last process that holds it.
lock() {
    exec 9<"$VENV"
    "$PYTHON" - "$VENV" <<'PYTHON'
import fcntl
import signal
import sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while waiting: no traceback
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print(f'Another set-up of {sys.argv[1]} is under way: waiting for it.', flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)
except OSError as error:
    print(f'Cannot lock {sys.argv[1]} ({error}): do not set it up twice at a time.', flush=True)
PYTHON
}

pip_install() {
    "$PY" -m pip install "$@" || fail "pip could not install what it names above ($(free_gib || say '?') GiB of disk space are free).
Check the network connection and proxy, then run this again: what is installed or downloaded is kept."
}

make_venv() {
    local output
    if "$PY" -c 'import pip' 2>/dev/null; then return; fi
    # Not `venv --clear`: without the stamp a half-made folder would look like somebody else's.
    find "$VENV" -mindepth 1 -maxdepth 1 ! -name "${STAMP##*/}" -exec rm -rf {} +
    output="$("$PYTHON" -m venv "$VENV" 2>&1)" || fail "$PYTHON could not make a virtual environment in $VENV:
$output"
}

install_mmcv() {
    local wheel
    # shellcheck disable=SC2046
    wheel="$("$PY" "$REPO/tools/dev/build_mmcv.py" --constraints "$CONSTRAINTS" --hashes "$HASHES" $(grep -v '^#' "$SOURCE"))" \
        || fail "mmcv's ops could not be built (see above)."
    pip_install --quiet --no-deps --no-index --force-reinstall "$wheel"
    # mmcv without CUDA ops runs on the CPU only: verify it there.
    [[ "$wheel" == *_cpu_* ]] && export CUDA_VISIBLE_DEVICES=
    if "$PY" -c 'from mmcv.ops import deform_conv, nms' 2>/dev/null; then return; fi
    # Kept from an earlier run, perhaps on another system in the same home: build it here, once.
    if [[ "$wheel" -ot "$STAMP" ]]; then
        say 'The mmcv wheel kept from before does not run here.'
        rm -f "$wheel"
        install_mmcv
    fi
}

verify() {
    local report
    report="$("$PY" "$REPO/tools/doctor.py" --environment 2>&1)" || fail "the environment was installed but does not work:

$report

If running this again changes nothing, delete $VENV first."
}

if [[ -n "${GMCONV_PYTHON:-}" && -x "$PY" ]]; then
    for interpreter in "$GMCONV_PYTHON" "$PY"; do
        versions+=("$("$interpreter" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || say '?')")
    done
    [[ "${versions[1]}" == '?' || "${versions[0]}" == "${versions[1]}" ]] \
        || fail "$VENV has Python ${versions[1]}, and GMCONV_PYTHON is Python ${versions[0]}.
Delete that folder, or name another: GMCONV_VENV=/path/to/new/folder"
fi
for source in "$REPO"/requirements/*/source.txt; do
    other="$(grep -v '^#' "$source")"
    if [[ "$source" != "$SOURCE" ]] && compgen -G "$VENV/lib/python3*/site-packages/${other//-/_}-*.dist-info" >/dev/null; then
        fail "$VENV holds $other, which belongs to another stack than '$STACK'; both import as mmcv.
Delete that folder, or name another: GMCONV_VENV=/path/to/new/folder"
    fi
done
if is_ready; then finish; fi

choose_python
choose_compiler
mkdir -p "$VENV" 2>/dev/null || fail "cannot make the folder $VENV. Name another: GMCONV_VENV=/path/to/new/folder"
lock
if is_ready; then finish; fi
if [[ ! -f "$STAMP" && -n "$(ls -A "$VENV")" ]]; then
    fail "$VENV exists and was not made by this script, which would change what is in it.
Name another folder: GMCONV_VENV=/path/to/new/folder bash tools/setup_env.sh"
fi
check_disk
say "$UNFINISHED" >"$STAMP"

say "Setting up $VENV (first time: 15 to 25 minutes, about 3 GiB of downloads)."
say '[1/5] Python environment'
make_venv
say '[2/5] torch and the packages around it'
# The pip that Python brings may know no hashes in constraints; a list with hashes it does know.
pip_install --quiet -r <(grep -E '^(pip|setuptools|wheel|packaging)==' "$HASHES")
pip_install "${PINS[@]}" "${NEEDS[@]/#/--requirement=}"
say "[3/5] mmdet, mmengine, mmpretrain ($STACK stack)"
# Without isolation source packages are built by the pinned setuptools.
pip_install --no-deps --no-build-isolation "${PINS[@]}" -r "$OPENMMLAB"
say '[4/5] mmcv with its compiled ops'
install_mmcv
say '[5/5] this project'
(cd "$REPO" && PYTHONWARNINGS=ignore pip_install --quiet --no-deps --no-build-isolation -e .)
verify

{ fingerprint; gpu_state; } >"$STAMP.new"
mv -f "$STAMP.new" "$STAMP"
finish
