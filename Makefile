# Every target makes its own environment in .venv and installs what it needs. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The native sources and the metadata: when they change, the package is installed again.
SOURCES := $(wildcard csrc/*/*.cc csrc/*/*.h) CMakeLists.txt setup.py pyproject.toml

# Processes that share the tests; auto: one for each CPU and 4 GB of memory.
WORKERS ?= auto

.PHONY: demo test test-slow test-real test-asan test-tsan bench bench-quick bench-gpu bench-cores bench-load fidelity lint format clean

demo: $(VENV)/installed  ## export the small model kept here, let it fill masks, compare the backends
	$(BIN)/python examples/demo.py

test: $(VENV)/installed lint  ## lint and all tests but the slow ones
	$(BIN)/python -m pytest -m "not slow and not real and not alone" -n $(WORKERS) --dist worksteal --durations=15
	$(BIN)/python -m pytest -m "alone and not slow and not real"

test-slow: $(VENV)/installed  ## the tests that take minutes or gigabytes
	$(BIN)/python -m pytest -m slow --durations=15

test-real: $(VENV)/installed  ## the published weights, where there is a network
	$(BIN)/python -m pytest -m real

test-asan: $(VENV)/installed  ## the native tests under AddressSanitizer and UndefinedBehaviorSanitizer
	BIN=$(abspath $(BIN)) WORKERS=$(WORKERS) tools/test_sanitized.sh address,undefined

test-tsan: $(VENV)/installed  ## the thread team and the native tests under ThreadSanitizer
	BIN=$(abspath $(BIN)) WORKERS=$(WORKERS) tools/test_sanitized.sh thread

# Alone on the machine: what else runs there is measured too.
bench: $(VENV)/installed  ## the engine and its peers on seeded models, under two hours; benchmarks/results
	$(BIN)/python -m albert_bench.suite --models benchmarks/out --output benchmarks/results

bench-quick: $(VENV)/installed  ## the same on one model and three rows, in some minutes
	$(BIN)/python -m albert_bench.suite --quick --models benchmarks/out --output benchmarks/out/quick

bench-gpu: $(VENV)/installed  ## the engine, torch, ONNX Runtime and TensorRT on this machine's GPU, in some minutes
	$(BIN)/python -m albert_bench.gpu --models benchmarks/out/seeded --output benchmarks/results-gpu

bench-cores: $(VENV)/installed  ## the CPU engine on 1, 2, 4... threads, in some minutes; alone on the machine
	$(BIN)/python -m albert_bench.cores --models benchmarks/out/seeded --output benchmarks/results

bench-load: $(VENV)/installed  ## servers under load, the queue's policies, ten minutes at 120 %; alone on the machine, 40 minutes
	test -e benchmarks/out/albert-base-v2.manifest.json || \
	  $(BIN)/albert-export albert-base-v2 --random-weights -o benchmarks/out --quiet
	$(BIN)/python -m albert_bench.load.policies benchmarks/out/albert-base-v2 --output benchmarks/results
	$(BIN)/python -m albert_bench.load benchmarks/out/albert-base-v2 --output benchmarks/results
	$(BIN)/python -m albert_bench.load.soak benchmarks/out/albert-base-v2 --output benchmarks/results

fidelity: $(VENV)/installed  ## what 16 and 8 bits cost the small model kept here, on every backend
	$(BIN)/python tools/fidelity.py

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror csrc/*/*.cc csrc/*/*.h
	$(BIN)/python -m mypy.stubtest albert_runtime._native --mypy-config-file pyproject.toml --allowlist tools/stubtest.allow

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i csrc/*/*.cc csrc/*/*.h

$(VENV)/python: tools/check_python.py
	$(PYTHON) tools/check_python.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

# Warnings are errors here; a user's `pip install` is not held up by a newer compiler's.
$(VENV)/installed: $(VENV)/python $(SOURCES)
	CMAKE_ARGS="-DALBERT_WERROR=ON" $(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf build dist *.egg-info $(VENV) runtime/albert_runtime/_native*.so
