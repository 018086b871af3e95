#!/usr/bin/env bash
# Everything that wants a GPU, and the CPU engine on the same machine's cores, in at most 8 minutes and without a network.
#   tools/gpu_check.sh [OUT]              # on a machine with an NVIDIA GPU, CMake, ninja, pybind11, torch and Triton
#   tools/gpu_check.sh --dry-run [OUT]    # the same steps on tiny models, in Triton's interpreter: needs the package, no GPU
# OUT (build/gpu-check) gets NAME.log of each step, its results, and summary.md, all as they come: a run that is killed keeps
# what it has. A step that fails does not stop the others. Exit code: 0 if none failed, 1 if one did, 2 for wrong usage.
# PYTHON (python3) chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

dry_run=
if [[ ${1:-} == --dry-run ]]; then
  dry_run=yes
  shift
fi
if (($# > 1)) || [[ ${1:-} == -* ]]; then
  echo "gpu_check: usage: tools/gpu_check.sh [--dry-run] [OUT]" >&2
  exit 2
fi
python=${PYTHON:-python3}
mkdir -p "${1:-build/gpu-check}"
out=$(cd "${1:-build/gpu-check}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seconds_in_all=470  # a step that ignores being asked to stop gets 5 more
summary=$out/summary.md
passed=yes
printf '| step | result | seconds | why |\n| --- | --- | ---: | --- |\n' >"$summary"

note() {  # note STEP RESULT SECONDS WHY
  printf '| %s | %s | %s | %s |\n' "$1" "$2" "$3" "$4" >>"$summary"
  printf 'gpu_check: %s: %s (%s s) %s\n' "$1" "$2" "$3" "$4"
}

last_line() {  # the last line of a step's log that says anything, short enough for a table
  grep -v '^[[:space:]]*$' "$1" | tail -n 1 | cut -c 1-160 | tr '|' '/' || true
}

step() {  # step NAME SECONDS COMMAND...: run it for so long at most, and note how it ended
  local name=$1 limit=$2 left=$((seconds_in_all - SECONDS)) start=$SECONDS code=0
  shift 2
  if ((left < 5)); then
    passed=no
    note "$name" skipped 0 "no time was left"
    return
  fi
  limit=$((limit < left ? limit : left))
  timeout --kill-after=5 "$limit" "$@" >"$out/$name.log" 2>&1 </dev/null || code=$?
  case $code in
    0) note "$name" ok $((SECONDS - start)) "" ;;
    124 | 137) passed=no && note "$name" "timed out" $((SECONDS - start)) "after $limit s: $(last_line "$out/$name.log")" ;;
    *) passed=no && note "$name" failed $((SECONDS - start)) "exit code $code: $(last_line "$out/$name.log")" ;;
  esac
}

on_gpu() {  # on_gpu NAME SECONDS COMMAND...: a step that a dry run cannot take
  if [[ $dry_run ]]; then
    note "$1" skipped 0 "a dry run has no GPU"
  else
    step "$@"
  fi
}

tiny=()
# The packages and plugins here need not be those of `make test`, so their warnings are no errors and the plugins stay out.
tests=(-q -W default -p no:cacheprovider -p xdist.plugin)
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
if [[ $dry_run ]]; then
  export TRITON_INTERPRET=1  # before anything imports Triton
  tiny=(--tiny)
  tests+=(--collect-only)
elif ! nvidia-smi --list-gpus >"$out/card.log" 2>&1; then
  echo "gpu_check: error: nvidia-smi finds no GPU; --dry-run does without one" >&2
  exit 1
fi
# Folders of its own: an older build or cache must not decide the results.
export PATH=$PATH:/usr/local/cuda/bin  # where ncu lies if it is not on the path
export ALBERT_PACKED_CACHE=0 TRITON_CACHE_DIR=$work/triton TORCHINDUCTOR_CACHE_DIR=$work/inductor

if [[ $dry_run ]]; then
  note build skipped 0 "a dry run uses the package as it is installed"
else
  # Not editable and not in an environment: the interpreter's own packages stay as they are.
  step build 120 "$python" -m pip install --no-index --no-build-isolation --no-deps --target "$work/site" .
  export PYTHONPATH=$work/site${PYTHONPATH:+:$PYTHONPATH}
fi
on_gpu card 20 bash -c 'nvidia-smi && "$0" -c "import torch; print(torch.__version__, torch.cuda.get_device_name())"' "$python"
step machine 20 bash -c 'lscpu && "$0" --version' "$python"
# Mostly compiling, so one process for each core. What fills the GPU's memory runs by itself.
on_gpu tests-gpu 100 "$python" -m pytest "${tests[@]}" -n auto -k "not memory_runs_out" tests/gpu tests/runtime/gpu \
  --ignore tests/runtime/gpu/test_compile.py
on_gpu tests-memory 30 "$python" -m pytest "${tests[@]}" -k memory_runs_out tests/gpu
step fidelity 70 "$python" -m albert_bench.gpu.fidelity "${tiny[@]}" --models "$work/models" --golden tests/data/golden --output "$out"
step bench-gpu 170 "$python" -m albert_bench.gpu "${tiny[@]}" --models "$work/models" --output "$out"
if [[ ! $dry_run ]] && ! command -v ncu >/dev/null; then
  note ncu skipped 0 "ncu is not installed"
else
  on_gpu ncu 40 "$python" -m albert_bench.gpu.kernels --models "$work/models" --output "$out"
fi
# What the exporter makes needs Paddle; without it those tests are skipped and say so. The GPU's kernels are tested above: the
# interpreter of this machine's Triton need not work.
step tests-cpu 100 "$python" -m pytest "${tests[@]}" -n auto -m "not slow and not real and not alone" tests/native tests/runtime \
  --ignore tests/runtime/gpu
step bench-cores 150 "$python" -m albert_bench.cores "${tiny[@]}" --models "$work/models" --output "$out"

[[ $passed == yes ]]
