#!/usr/bin/env bash
# Builds the extension with AddressSanitizer and UndefinedBehaviorSanitizer in a folder of its own and runs the native tests on it.
# BIN: the bin folder of the virtual environment.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/asan
PATH="$BIN:$PATH" cmake -S . -B "$build" -GNinja -DCMAKE_BUILD_TYPE=Release -DALBERT_SANITIZE=ON -DALBERT_WERROR=ON \
  -DPython_EXECUTABLE="$BIN/python" -Dpybind11_DIR="$("$BIN/python" -m pybind11 --cmakedir)" >/dev/null
"$BIN/cmake" --build "$build"
# A package folder of links to the Python sources, with the sanitized extension among them.
package=$build/site/albert_runtime
rm -rf "$build/site" && mkdir -p "$package"
for item in runtime/albert_runtime/*; do
  [[ $item == *.so ]] || ln -s "$PWD/$item" "$package/"
done
cp "$build"/_native*.so "$package/"
runtime=$(${CXX:-c++} -print-file-name=libasan.so)
stdcxx=$(${CXX:-c++} -print-file-name=libstdc++.so)  # preloaded too: ASan must find the exception functions when it starts
export LD_PRELOAD="$runtime $stdcxx" ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 PYTHONMALLOC=malloc PYTHONPATH="$PWD/$build/site"
"$BIN/python" -c "from albert_runtime import _native; assert '/$build/' in _native.__file__, _native.__file__"
# The allocation test puts an allocator of its own in the place of the sanitizer's; what is measured alone is no matter here.
"$BIN/python" -m pytest -p no:cacheprovider -x -q -m "not alone" -n "${WORKERS:-auto}" --dist worksteal tests/native --ignore tests/native/test_allocations.py
