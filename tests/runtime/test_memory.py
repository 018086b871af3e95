"""Memory does not grow with the number of layers that share their weights, on any backend."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

LAYER_MB = 12.6  # float32 weights of one layer of hidden size 512
FEW, MANY = 2, 12

MEASURE = """
import sys
from pathlib import Path
from albert_runtime import Predictor

def resident_mb():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024

path, backend = sys.argv[1:]
if backend != "native":
    __import__(backend)
before = resident_mb()
predictor = Predictor(path, backend=backend, num_threads=1)
predictor.run([[5] * 16])
print(resident_mb() - before)
"""


@pytest.fixture(scope="module")
def programs(export_artifact, tmp_path_factory, tiny_config):
    config = replace(
        tiny_config,
        hidden_size=512,
        num_attention_heads=8,
        intermediate_size=2048,
        max_position_embeddings=64,
    )

    def program(layers, program_format):
        folder = tmp_path_factory.getbasetemp() / f"layers-{layers}"
        folder.mkdir(exist_ok=True)
        values = replace(config, num_hidden_layers=layers).to_dict()
        del values["padding_idx"]
        values |= {"model_type": "albert", "architectures": ["AlbertModel"]}
        (folder / "config.json").write_text(json.dumps(values))
        return export_artifact(folder, seed=0, format=program_format)

    return program


@pytest.mark.parametrize(
    ("backend", "program_format"),
    [("native", "pdmodel"), ("onnxruntime", "pdmodel"), ("paddle", "pdmodel"), ("paddle", "json")],
)
def test_memory_does_not_grow_with_depth(programs, backend, program_format):
    grown = []
    for layers in (FEW, MANY):
        program = str(programs(layers, program_format))
        command = [sys.executable, "-W", "ignore", "-c", MEASURE, program, backend]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        grown.append(float(run.stdout.split()[-1]))
    # A copy of the weights per layer would be 10 of them; what describes a layer in a program takes 2 MB in
    # Paddle.
    assert grown[1] - grown[0] < 0.25 * (MANY - FEW) * LAYER_MB, grown
