#!/usr/bin/env bash
# bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]
# GPUS (8), GPUS_PER_NODE (8, or GPUS where that is less), CPUS_PER_TASK (5), SRUN_ARGS in the environment, as in MMAction2.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "usage: bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]" >&2
    exit 2
fi
here=$(CDPATH= cd "$(dirname "$0")" && pwd)
source "$here/slurm_launch.sh"
slurm_check "$3" "$4"
slurm_launch "$1" "$2" "$here/test.py" "$3" "$4" --launcher slurm "${@:5}"
