# Sourced by slurm_train.sh and slurm_test.sh: slurm_launch PARTITION JOB_NAME SCRIPT ARGUMENTS...
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS from the environment, as in MMAction2.
slurm_launch() {
    local partition=$1 job=$2
    shift 2
    local gpus=${GPUS:-8} cpus=${CPUS_PER_TASK:-5}
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    export MASTER_PORT=${MASTER_PORT:-$((12000 + RANDOM % 20000))}
    # Of two values the last one counts, so SRUN_ARGS can change each of the others (--gres=none: a job without GPUS).
    exec srun -p "$partition" --job-name="$job" --gres=gpu:"$per_node" --ntasks="$gpus" \
        --ntasks-per-node="$per_node" --cpus-per-task="$cpus" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
        "${PYTHON:-python}" -u "$@"
}

slurm_check() {  # the config, or the config and the checkpoint
    local name path
    for name in GPUS GPUS_PER_NODE CPUS_PER_TASK; do
        if ! [[ ${!name:-1} =~ ^[1-9][0-9]*$ ]]; then
            echo "error: $name must be a number, 1 or more; '${!name}' came" >&2
            exit 2
        fi
    done
    for path in "$@"; do
        if [[ $path != *://* && ! -e $path ]]; then
            echo "error: $path does not exist (looked from $PWD)." >&2
            exit 2
        fi
    done
    if ! command -v srun > /dev/null; then
        echo "error: srun was not found: this machine belongs to no Slurm cluster." \
            "Without Slurm: bash tools/dist_train.sh, tools/dist_test.sh" >&2
        exit 2
    fi
}
