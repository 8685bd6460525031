#!/usr/bin/env bash
# Measure and train on a machine with a CUDA GPU: in stages, in 25 minutes or less.
#
#   bash tools/gpu_evidence.sh --data DIR [--python PYTHON] [--wheels DIR] [--stages NAME ...]
#   bash tools/gpu_evidence.sh --data DIR --rehearse       everything tiny; a CPU will do
#
#   stack      versions; mmcv's compiled operators on the GPU against the CPU
#   benchmark  tables of tools/benchmark.py; needs no operator compiled for CUDA
#   cifar      Table I on CIFAR-10: ResNet-20, the paper's 160 epochs, three seeds
#   coco128    the plain and GM rows of Table V, a few hundred iterations each with AMP
#   cifar_resnet18  Table I's ResNet-18 in fp16, as far as the time goes
#
# Each stage writes OUT/<stage>.json (--out, by default work_dirs/gpu_evidence), again whenever a
# part of it ends. The same command goes on after an interruption and repeats nothing.
#
# Python is --python's, or $PYTHON, or that of tools/setup_env.sh, which builds mmcv for the machine.
# Without internet: name a Python that has torch, and --wheels, a folder with the wheels that it
# lacks (mmengine, mmdet, mmpretrain, their needs, and an mmcv compiled for that torch and GPU; one
# compiled for the CPU serves all but coco128, detectors and deformable rows). They go to OUT/site,
# not into that Python. docs/gpu.md has the list.
#
# python tools/gpu_evidence.py --help shows the other options.
set -euo pipefail

unset CDPATH
REPO="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
python="${PYTHON:-}" wheels='' out="$REPO/work_dirs/gpu_evidence" rest=()
while [ $# -gt 0 ]; do
    case "$1" in
        --python | --wheels | --out)
            [ $# -ge 2 ] || { echo "gpu_evidence: $1 needs a value" >&2; exit 2; }
            case "$1" in --python) python="$2" ;; --wheels) wheels="$2" ;; --out) out="$2" ;; esac
            shift 2 ;;
        -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | sed '$d'; exit 0 ;;
        *) rest+=("$1"); shift ;;
    esac
done
[ -n "$python" ] || python="$(bash "$REPO/tools/setup_env.sh" --print-python)"
mkdir -p "$out"
if [ -n "$wheels" ]; then
    site="$(cd "$out" && pwd -P)/site"
    if [ ! -e "$site/.whole" ]; then
        "$python" -m pip install -q --no-index --no-deps --no-compile --upgrade \
            --target "$site" "$wheels"/*.whl
        touch "$site/.whole"
    fi
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
export PYTHONPATH="$REPO${PYTHONPATH:+:$PYTHONPATH}" MPLBACKEND=Agg
exec "$python" -W ignore "$REPO/tools/gpu_evidence.py" --out "$out" ${rest[@]+"${rest[@]}"}
