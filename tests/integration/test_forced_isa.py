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
PRECISIONS = ("fp32", "bf16", "int8")
CHECKPOINT = Path(__file__).parents[2] / "models" / "python-albert"
COMMANDS = {
    "albert-serve": ["albert_runtime.serve.cli", TINY, "--port", 0, "--grpc-port", 0],
    "albert-bench": ["albert_bench.cli", TINY, "--quick", "--only", "onnxruntime", "-o", "out"],
    "albert-export": ["albert_export.cli", CHECKPOINT, "-o", "out", "--quiet"],
}
# From a checkpoint to answers, in a process that has these variables from its start.
WHOLE = """
import json, sys
from pathlib import Path
import numpy as np
from albert_export.cli import main
from albert_runtime import Predictor

checkpoint, folder = sys.argv[1:]
exported = {}
for precision in ("fp32", "bf16", "int8"):
    flags = [] if precision == "fp32" else [f"--{precision}"]
    assert main([checkpoint, "-o", folder, "--quiet", *flags]) == 0
    stem = Path(checkpoint).name + ("" if precision == "fp32" else f"-{precision}")
    predictor = Predictor(Path(folder) / stem, backend="native")
    answer = predictor.run([[2, 5, 6, 7, 3], [2, 9, 3]])
    np.savez(Path(folder) / f"{precision}.npz", **answer)
    exported[precision] = predictor.info()["isa"]
print(json.dumps(exported))
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
def test_an_avx2_machine_exports_and_answers_with_the_same_bits(golden: Path, tmp_path: Path) -> None:
    found = {}
    for name, environment in (("any", {}), ("avx2", AS_AVX2)):
        folder = tmp_path / name
        folder.mkdir()
        done = run(["-c", WHOLE, golden / "model-gelu", folder], tmp_path, **environment)
        assert done.returncode == 0, done.stderr
        isas = json.loads(done.stdout.splitlines()[-1])
        assert name == "any" or set(isas.values()) == {"avx2"}
        found[name] = {
            (precision, output): values
            for precision in PRECISIONS
            for output, values in np.load(folder / f"{precision}.npz").items()
        }
    assert found["any"].keys() == found["avx2"].keys() and len(found["any"]) == 6
    for key, values in found["any"].items():
        assert np.array_equal(values, found["avx2"][key]), key


def told(done: "subprocess.CompletedProcess[str]") -> None:
    """It failed, with one line about it, which names what there is."""
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "mmx" in line]
    assert "error" in line and f"choose one of {', '.join(_native.isas())}" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_isa_ends_a_command_with_one_line(command: str, tmp_path: Path) -> None:
    told(run(["-m", *COMMANDS[command]], tmp_path, ALBERT_FORCE_ISA="mmx"))
    assert not list(tmp_path.glob("out/*.json"))


def test_an_unknown_isa_ends_albert_predict_with_one_line(
    export_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    program = export_artifact(CHECKPOINT)
    told(run(["-m", "albert_runtime.predict_cli", program], tmp_path, ALBERT_FORCE_ISA="mmx"))


@pytest.mark.parametrize("backend", ["auto", "native"])
def test_an_unknown_isa_is_not_hidden_by_another_backend(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALBERT_FORCE_ISA", "mmx")
    choices = ", ".join(_native.isas())
    with pytest.raises(BackendError, match=f"^ALBERT_FORCE_ISA: .*'mmx'.*choose one of {choices}$"):
        Predictor(TINY, backend=backend, device="cpu")
