"""A run allocates nothing once its sizes have been seen: a child process counts, with malloc interposed."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("count_allocations.c")
CHILD = """
import ctypes, json, sys, time
from pathlib import Path
import numpy as np
from tests.native.model import config, make_model, tokens

count = ctypes.CDLL(None)
count.counted_blocks.restype = count.counted_bytes.restype = ctypes.c_ulonglong
results = []

def count_runs():
    count.start_counting()
    for _ in range(10):
        engine.run(*arguments)
    count.stop_counting()
    results.append([count.counted_blocks() / 10, count.counted_bytes() / 10])

for layers in (1, 6):
    folder = Path(sys.argv[1]) / str(layers)
    folder.mkdir()
    model = make_model(folder, config(num_hidden_layers=layers))
    for precision in ("fp32", "bf16", "int8"):
        engine = model.engine(precision=precision)
        for lengths in ([3], [40, 60] * 20):
            t = tokens(lengths)
            hidden = np.zeros((len(lengths), t.width, model.config.hidden_size), np.float32)
            pooled = np.zeros((len(lengths), model.config.hidden_size), np.float32)
            for threads in (1, 2):
                packed = t.input_ids, t.positions, t.token_type_ids, t.row_starts, t.masked_first
                arguments = *packed, hidden, pooled, threads
                for _ in range(3):
                    engine.run(*arguments)
                count_runs()
time.sleep(1.1)  # after a second the pool of threads reads quota and affinity anew, in the next run
count_runs()
print(json.dumps(results))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="interposes the allocator of glibc")
def test_a_run_allocates_nothing_after_warm_up(tmp_path: Path) -> None:
    shim = tmp_path / "count_allocations.so"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", str(SOURCE), "-o", str(shim)], check=True)
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    environment = os.environ | {"LD_PRELOAD": str(shim), "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    counts = json.loads(done.stdout)
    assert len(counts) == 2 * 3 * 2 * 2 + 1
    # The binding's list of arguments is all, whatever the work: the ids of 2000 tokens alone are 24 kB.
    assert len({blocks for blocks, _ in counts}) == 1
    assert all(size < 1024 for _, size in counts)
