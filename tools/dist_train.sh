#!/usr/bin/env bash
# bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# GPUS processes on this machine; without CUDA they run on the CPU with gloo.
# Several machines: NNODES, NODE_RANK, MASTER_ADDR, PORT in the environment, as in MMAction2.
# MAX_RESTARTS=n together with --resume: when a process is killed, all start again from the newest checkpoint.
here=$(CDPATH= cd "$(dirname "$0")" && pwd)
exec "${PYTHON:-python}" "$here/launch_processes.py" train "$@"
