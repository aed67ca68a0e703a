#!/usr/bin/env bash
# bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
# GPUS processes on this machine; without CUDA they run on the CPU with gloo.
# Several machines: NNODES, NODE_RANK, MASTER_ADDR, PORT in the environment, as in MMAction2.
here=$(CDPATH= cd "$(dirname "$0")" && pwd)
exec "${PYTHON:-python}" "$here/launch_processes.py" test "$@"
