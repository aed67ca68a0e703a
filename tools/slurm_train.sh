#!/usr/bin/env bash
# bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [WORK_DIR] [options of tools/train.py]
# GPUS (8), GPUS_PER_NODE (8, or GPUS where that is less), CPUS_PER_TASK (5), SRUN_ARGS in the environment, as in MMAction2.
# A job that Slurm may start again (SRUN_ARGS=--requeue, a time limit): give --resume.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [WORK_DIR] [options of tools/train.py]" >&2
    exit 2
fi
here=$(CDPATH= cd "$(dirname "$0")" && pwd)
source "$here/slurm_launch.sh"
slurm_check "$3"
work_dir=()
options=("${@:4}")
if [ $# -ge 4 ] && [[ $4 != -* ]]; then
    work_dir=(--work-dir "$4")
    options=("${@:5}")
fi
slurm_launch "$1" "$2" "$here/train.py" "$3" --launcher slurm "${work_dir[@]}" "${options[@]}"
