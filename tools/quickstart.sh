#!/usr/bin/env bash
# bash tools/quickstart.sh [options of tools/quickstart.py]
# Makes .venv in this checkout, installs the pinned set and the package, then generates data, trains a stock recognizer with
# and without LSEFNeck and LSEFHead, tests both on clean and corrupted clips, and ends with a table and a picture. About ten
# minutes on 2 cores. A second start reuses what is there; an interrupted one goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/environment.sh
make_environment quickstart
exec "$VENV/bin/python" tools/quickstart.py "$@"
