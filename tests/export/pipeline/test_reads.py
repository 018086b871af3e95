"""How often a checkpoint is read: once by the command, and once by the process that traces."""

import subprocess
import sys

import pytest

# An audit hook sees every open() of a process, those of numpy included; the worker inherits it by PYTHONPATH.
HOOK = """
import os, sys

def count(event, arguments):
    if event == "open" and str(arguments[0]).endswith("model_state.pdparams"):
        with os.fdopen(os.open(os.environ["READS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT), "w") as file:
            file.write(f"{os.getpid()}\\n")

sys.addaudithook(count)
"""


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_pickle_is_read_once_by_each_process(tmp_path, golden, monkeypatch, precision):
    log = tmp_path / "reads"
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    monkeypatch.setenv("READS", str(log))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"), prepend=":")
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "model_state.pdparams"):
        (model / name).write_bytes((golden / "model-gelu" / name).read_bytes())
    letters = [chr(code) for code in range(33, 127)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (model / "vocab.txt").write_text("\n".join(tokens))
    options = [] if precision == "fp32" else [f"--{precision}"]
    command = [sys.executable, "-m", "albert_export.cli", str(model), "-o", str(tmp_path / "out"), "--quiet"]
    subprocess.run([*command, *options], check=True)
    readers = log.read_text().split()
    assert len(readers) == len(set(readers)) == 2
