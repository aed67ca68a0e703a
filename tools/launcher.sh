# Sourced by dist_train.sh and dist_test.sh: launch GPUS SCRIPT ARGUMENTS...
# One machine and no PORT given: torchrun picks a free port itself, so two jobs never meet.
launch() {
    local gpus=$1
    shift
    local python=${PYTHON:-python}
    if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
        exec "$python" -m torch.distributed.run --standalone --nproc_per_node="$gpus" "$@"
    fi
    exec "$python" -m torch.distributed.run --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
        --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" --nproc_per_node="$gpus" "$@"
}
