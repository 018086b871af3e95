#!/usr/bin/env bash
# Builds the extension with sanitizers in a folder of its own and runs the native tests on it.
#   tools/test_sanitized.sh address,undefined    # AddressSanitizer and UndefinedBehaviorSanitizer
#   tools/test_sanitized.sh thread               # ThreadSanitizer, and a program for the thread team alone
# BIN: the bin folder of the virtual environment.
set -euo pipefail
cd "$(dirname "$0")/.."
sanitizers=$1
build=build/sanitized-${sanitizers//,/-}
PATH="$BIN:$PATH" cmake -S . -B "$build" -GNinja -DCMAKE_BUILD_TYPE=Release -DALBERT_SANITIZE="$sanitizers" -DALBERT_WERROR=ON \
  -DPython_EXECUTABLE="$BIN/python" -Dpybind11_DIR="$("$BIN/python" -m pybind11 --cmakedir)" >/dev/null
"$BIN/cmake" --build "$build"
# A package folder of links to the Python sources, with the sanitized extension among them.
package=$build/site/albert_runtime
rm -rf "$build/site" && mkdir -p "$package"
for item in runtime/albert_runtime/*; do
  [[ $item == *.so ]] || ln -s "$PWD/$item" "$package/"
done
cp "$build"/_native*.so "$package/"
library() { ${CXX:-c++} -print-file-name="$1"; }
# The allocation test puts an allocator of its own in the place of the sanitizer's; what is measured alone is of no interest here.
tests=(tests/native --ignore tests/native/test_allocations.py)
if [[ $sanitizers == thread ]]; then
  TSAN_OPTIONS=halt_on_error=1 "$build/thread_team_test"
  preload=$(library libtsan.so)
  # A race ends the process at once; pytest would capture its report, so that goes to a file. OpenBLAS, which is not instrumented,
  # would be reported for threads of its own. A forked child starts threads: the engine is made for that.
  reports=$PWD/$build/report
  rm -f "$reports".*
  trap 'cat "$reports".* 2>/dev/null || true' EXIT
  export OPENBLAS_NUM_THREADS=1
  export TSAN_OPTIONS=halt_on_error=1:exitcode=66:die_after_fork=0:log_path=$reports:suppressions=$PWD/tools/tsan.suppressions
else
  preload="$(library libasan.so) $(library libstdc++.so)"  # ASan must find the exception functions when it starts
  export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1
fi
export LD_PRELOAD=$preload PYTHONMALLOC=malloc PYTHONPATH="$PWD/$build/site"
"$BIN/python" -c "from albert_runtime import _native; assert '/$build/' in _native.__file__, _native.__file__"
"$BIN/python" -m pytest -p no:cacheprovider -x -q -m "not alone" -n "${WORKERS:-auto}" --dist worksteal "${tests[@]}"
