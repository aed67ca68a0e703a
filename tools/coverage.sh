#!/usr/bin/env bash
# bash tools/coverage.sh [pytest arguments]
# Which lines and branches of lsef_plugins the tests reach. Measured, not gated: a number is no test.
# The kernels (C++, CUDA) and what runs in processes of its own are not counted.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/environment.sh
make_environment tests
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
"$VENV/bin/python" -m coverage erase
"$VENV/bin/python" -m coverage run -m pytest -q "$@" || echo '== some tests failed; what was reached counts all the same'
"$VENV/bin/python" -m coverage combine --quiet
"$VENV/bin/python" -m coverage report
