#!/usr/bin/env bash
# bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# GPUS processes on this machine; without CUDA they run on the CPU with gloo.
# Several machines: NNODES, NODE_RANK, MASTER_ADDR, PORT in the environment, as in MMAction2.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]" >&2
    exit 2
fi
CONFIG=$1
GPUS=$2
here=$(CDPATH= cd "$(dirname "$0")" && pwd)
source "$here/launcher.sh"
launch "$GPUS" "$here/train.py" "$CONFIG" --launcher pytorch "${@:3}"
