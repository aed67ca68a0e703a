#!/usr/bin/env bash
# Everything that only a GPU can tell, in one call: build, tests, memory and race checks, benchmark.
#   bash tools/gpu_checks.sh [folder for the results, default gpu_checks]
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu_checks}
python=${PYTHON:-python}
mkdir -p "$out"
failed=0
step() {
    local name=$1
    shift
    echo "== $name: $*"
    "$@" 2>&1 | tee "$out/$name.txt" | tail -n 25
    [ "${PIPESTATUS[0]}" -eq 0 ] || { echo "== $name FAILED"; failed=1; }
}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
step gpu nvidia-smi
step build env LSEF_BUILD_CUDA=1 "$python" -m lsef_plugins.ops.build
step status "$python" -c 'import torch; from lsef_plugins import ops; print(torch.__version__, ops.status())'
step tests "$python" -m pytest -q tests/ops
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        step "$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 "$python" -m pytest -q tests/ops/test_cuda_device.py -k '(49 and not 512) or eigenvalues or repair'
    done
fi
step benchmark "$python" tools/benchmark_ops.py --device cuda
step large "$python" tools/benchmark_ops.py --device cuda --large
step neck "$python" tools/benchmark_neck.py --device cuda --compile
exit $failed
