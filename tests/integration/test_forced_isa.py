"""ALBERT_FORCE_ISA: the same bits from another instruction set, and one line for one that is none."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from albert_runtime import BackendError, Predictor, _native

TINY = Path(__file__).parents[1] / "data" / "artifacts" / "schema-1" / "tiny.manifest.json"
AS_AVX2 = {"ALBERT_FORCE_ISA": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
CHECKPOINT = Path(__file__).parents[2] / "models" / "python-albert"
ROWS = [[2, 70, 800, 3], [2, 5, 6, 7, 8, 9, 4, 3], [2]]
# From a checkpoint to answers, in a process that has the variables from its start.
EXPORT_AND_ANSWER = """
import json, sys
from pathlib import Path
import numpy as np
from albert_export.cli import main
from albert_runtime import Predictor

checkpoint, flag, rows = sys.argv[1:]
assert main([checkpoint, "-o", "out", "--quiet", *flag.split()]) == 0
predictor = Predictor("out", backend="native")
assert predictor.info()["isa"] == "avx2"
np.savez("answer.npz", **predictor.run(json.loads(rows)))
"""


def run(command: list[object], folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "ignore", *(str(word) for word in command)],
        env={**os.environ, **environment},
        cwd=folder,
        input="",
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.skipif("avx2" not in _native.isas(), reason="this machine has no AVX2")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_an_avx2_machine_exports_and_answers_with_the_same_bits(
    precision: str, export_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    flag = "" if precision == "fp32" else f"--{precision}"
    done = run(["-c", EXPORT_AND_ANSWER, CHECKPOINT, flag, json.dumps(ROWS)], tmp_path, **AS_AVX2)
    assert done.returncode == 0, done.stderr
    answer = np.load(tmp_path / "answer.npz")
    expected = Predictor(export_artifact(CHECKPOINT, precision=precision), backend="native").run(ROWS)
    assert set(answer) == set(expected)
    for name, values in expected.items():
        assert np.array_equal(answer[name], values), name
    assert Predictor(tmp_path / "out", backend="native", prove=True).proved is not None


@pytest.mark.parametrize("command", ["albert-predict", "albert-serve", "albert-bench", "albert-export"])
def test_an_unknown_isa_ends_a_command_with_one_line_that_names_the_others(
    command: str, export_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    words, code = {
        "albert-predict": (["albert_runtime.cli.predict", export_artifact(CHECKPOINT)], 2),
        "albert-serve": (["albert_runtime.serve", TINY, "--port", 0, "--grpc-port", 0], 1),
        "albert-bench": (["albert_bench.cli", TINY, "--quick", "--only", "onnxruntime", "-o", "out"], 1),
        "albert-export": (["albert_export.cli", CHECKPOINT, "-o", "out", "--quiet"], 1),
    }[command]
    done = run(["-m", *words], tmp_path, ALBERT_FORCE_ISA="mmx")
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "mmx" in line]
    assert "error" in line and f"choose one of {', '.join(_native.isas())}" in line
    assert not list(tmp_path.glob("out/*.json"))


@pytest.mark.parametrize("backend", ["auto", "native"])
def test_an_unknown_isa_is_not_hidden_by_another_backend(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALBERT_FORCE_ISA", "mmx")
    choices = ", ".join(_native.isas())
    with pytest.raises(BackendError, match=f"^ALBERT_FORCE_ISA: .*'mmx'.*choose one of {choices}$"):
        Predictor(TINY, backend=backend, device="cpu")
