#!/usr/bin/env bash
# bash tools/run_tests.sh [pytest arguments]
# Installs what the tests need into .venv of this checkout, then runs ruff, mypy and all tests (2 cores: about 15 minutes).
# LSEF_TEST_JOBS test files run at a time (2; each takes about a GiB). PYTHON chooses the interpreter, LSEF_VENV another place
# for the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/environment.sh
make_environment tests

echo '== ruff'
"$VENV/bin/python" -m ruff check .
echo '== mypy'
"$VENV/bin/python" -m mypy
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
echo '== pytest'
"$VENV/bin/python" -m pytest -n "${LSEF_TEST_JOBS:-2}" --dist loadfile "$@"
if [ $# -eq 0 ]; then
    echo '== pytest, once more without the compiled operators: what the formulas alone compute'
    LSEF_OPS=off "$VENV/bin/python" -m pytest -n "${LSEF_TEST_JOBS:-2}" --dist loadfile tests/functional tests/nn
fi
