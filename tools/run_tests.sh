#!/usr/bin/env bash
# Set the environment up if need be, then run the tests, fast and slow, in two processes.
#
#   bash tools/run_tests.sh [--stack default|onedl] [pytest's arguments]
#
#   --stack first: which packages to test with (see tools/setup_env.sh --help)
#   bash tools/run_tests.sh -m "not slow"        the fast part only
#   bash tools/run_tests.sh tests/layers -k mask
#   bash tools/run_tests.sh -m nightly           what is too long for every day (CONTRIBUTING.md)
#   bash tools/run_tests.sh -n 0 ...             in one process
#
# Paths in arguments count from the project's folder. The last line is pytest's summary.
set -euo pipefail

unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."
STACK=default
if [[ "${1-}" == --stack ]]; then STACK="${2-}"; shift $(($# > 1 ? 2 : 1)); fi
PYTHON="$(bash tools/setup_env.sh --stack "$STACK" --print-python)"
export MPLBACKEND=Agg OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$PYTHON" -m pytest -n 2 --dist worksteal "$@"
