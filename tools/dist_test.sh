#!/usr/bin/env bash
# bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
# GPUS processes on this machine; without CUDA they run on the CPU with gloo.
# Several machines: NNODES, NODE_RANK, MASTER_ADDR, PORT in the environment, as in MMAction2.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]" >&2
    exit 2
fi
CONFIG=$1
CHECKPOINT=$2
GPUS=$3
here=$(CDPATH= cd "$(dirname "$0")" && pwd)
source "$here/launcher.sh"
launch "$GPUS" "$here/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "${@:4}"
