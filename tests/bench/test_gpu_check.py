"""tools/gpu_check.sh: a dry run takes all steps without a GPU; a failure stops nothing and is told."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "gpu_check.sh"
STEPS = [
    "build",
    "card",
    "machine",
    "tests-gpu",
    "tests-memory",
    "fidelity",
    "bench-gpu",
    "ncu",
    "tests-cpu",
    "bench-cores",
]
ON_A_GPU_ONLY = {"build", "card", "tests-gpu", "tests-memory", "ncu"}


@pytest.fixture
def gpu_check(tmp_path):
    """gpu_check(*arguments, python=..., nvidia_smi="exit 1") -> (the process, {step: (result, why)})."""

    def run(*arguments, python=sys.executable, nvidia_smi="exit 1"):
        programs = tmp_path / "bin"
        write_script(programs / "nvidia-smi", nvidia_smi)
        environment = {**os.environ, "PYTHON": str(python), "PATH": f"{programs}:{os.environ['PATH']}"}
        done = subprocess.run(
            [SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        summary = tmp_path / "out" / "summary.md"
        lines = summary.read_text(encoding="utf-8").splitlines()[2:] if summary.exists() else []
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
        return done, {name: (result, why) for name, result, _, why in rows}

    return run


def write_script(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_a_dry_run_takes_every_step(gpu_check, tmp_path):
    out = tmp_path / "out"
    done, steps = gpu_check("--dry-run", str(out))
    told = {
        name: (out / f"{name}.log").read_text(encoding="utf-8")
        for name in STEPS
        if steps[name][0] != "skipped"
    }
    assert done.returncode == 0, (steps, told)
    assert list(steps) == STEPS
    for name, (result, why) in steps.items():
        assert result == ("skipped" if name in ON_A_GPU_ONLY else "ok")
        assert bool(why) == (result == "skipped")
    for name in ("gpu.json", "gpu.md", "fidelity.json", "fidelity.md", "cores.json", "cores.md"):
        assert (out / name).stat().st_size > 0
    measured = (out / "gpu.md").read_text(encoding="utf-8")
    for entrant in ("engine bf16", "engine int8", "torch sdpa bf16", "torch varlen bf16"):
        assert re.search(rf"^\| {entrant} \| \w+", measured, re.MULTILINE), measured


def test_a_failed_step_stops_no_other(gpu_check, tmp_path):
    python = write_script(tmp_path / "python", 'case "$*" in *fidelity*) echo "broken | pipe"; exit 3;; esac')
    done, steps = gpu_check("--dry-run", str(tmp_path / "out"), python=python)
    assert done.returncode == 1
    assert list(steps) == STEPS
    assert steps["fidelity"] == ("failed", "exit code 3: broken / pipe")
    assert steps["bench-cores"] == ("ok", "")


def test_with_a_gpu_every_step_runs(gpu_check, tmp_path):
    write_script(tmp_path / "bin" / "ncu", "exit 0")
    python = write_script(tmp_path / "python", "exit 0")
    done, steps = gpu_check(str(tmp_path / "out"), python=python, nvidia_smi="exit 0")
    assert done.returncode == 0
    assert steps == dict.fromkeys(STEPS, ("ok", ""))


def test_without_a_gpu(gpu_check, tmp_path):
    done, steps = gpu_check(str(tmp_path / "out"))
    assert (done.returncode, steps) == (1, {})
    assert done.stderr == "gpu_check: error: nvidia-smi finds no GPU; --dry-run does without one\n"


@pytest.mark.parametrize("arguments", [("--dryrun",), ("a", "b"), ("--dry-run", "--dry-run")])
def test_wrong_usage(gpu_check, arguments):
    done, _ = gpu_check(*arguments)
    assert done.returncode == 2
    assert done.stderr == "gpu_check: usage: tools/gpu_check.sh [--dry-run] [OUT]\n"
