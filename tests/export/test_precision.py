"""Artifacts of 16 bits: what is stored, who computes it and how close, who refuses, and what is reported."""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest

from albert_export.checkpoint.weights import RandomWeights
from albert_export.precision import PRECISIONS, dtypes, from_bfloat16, rounded, to_bfloat16
from albert_runtime import BackendError, Predictor
from albert_runtime.artifact.tasks import Head

from .machine import answering, left_out

STORED = {"fp16": "float16", "bf16": "bfloat16"}
CASES = [
    "model-gelu",
    "model-relu",
    "model-groups",
    "masked-lm",
    "token-classification",
    "question-answering",
    "multiple-choice",
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory, golden):
    """exported(case, precision) -> path of the program, made once through the command."""
    from albert_export.cli import main

    made = {}

    def export(case, precision, *more):
        key = (case, precision, *more)
        if key not in made:
            folder = tmp_path_factory.mktemp("narrow")
            assert main([str(golden / case), "-o", str(folder), f"--{precision}", "--quiet", *more]) == 0
            made[key] = folder / f"{case}-{precision}.{'json' if more else 'pdmodel'}"
        return made[key]

    return export


def inputs_of(golden, case):
    with np.load(golden / case / "io.npz") as stored:
        return {name: stored[name] for name in ("input_ids", "attention_mask", "token_type_ids")}


@pytest.mark.parametrize("precision", STORED)
@pytest.mark.parametrize("case", CASES)
def test_every_backend_that_can_answers_closely(exported, export_artifact, golden, case, precision):
    program = exported(case, precision)
    batch = inputs_of(golden, case)
    exact = Predictor(export_artifact(golden / case), backend="native").run(batch)
    for backend in answering(precision):
        answer = Predictor(program, backend=backend).run(batch)
        assert list(answer) == list(exact)
        for name, values in answer.items():
            assert values.dtype == np.float32 and values.shape == exact[name].shape
            # -10000, at masked places, is the same in both and would hide the rest.
            kept = exact[name] > -10000
            off, size = values[kept] - exact[name][kept], exact[name][kept]
            # Half a step of a value is 2^-12 (fp16) or 2^-9 (bf16) of it; these models gather some.
            error = np.sqrt(np.mean(off**2) / np.mean(size**2))
            assert 0 < error < {"fp16": 2**-8, "bf16": 2**-5}[precision]


@pytest.mark.parametrize("precision", STORED)
def test_what_is_stored_and_recorded(exported, golden, precision):
    program = exported("model-gelu", precision)
    manifest = Predictor(program).manifest
    assert manifest.precision == precision and manifest.name == f"model-gelu-{precision}"
    assert {t.name: t.dtype for t in manifest.tensors} == dtypes(
        manifest.config, Head(), PRECISIONS[precision]
    )
    assert {t.dtype for t in manifest.tensors} == {"float32", STORED[precision]}
    record = manifest.verification
    assert record["least_cosine"] == 0.999 and tuple(record["backends"]) == answering(precision)
    assert record["left_out"].keys() == left_out(precision).keys()
    for backend, words in left_out(precision).items():
        assert words in record["left_out"][backend]
    assert Predictor(program).info()["left_out"] == record["left_out"]
    for outputs in (*record["backends"].values(), *record["depths"].values()):
        assert all(errors["max_abs"] > 0 and errors["cosine"] > 0.999 for errors in outputs.values())
    layers = [str(depth + 1) for depth in range(manifest.config.num_hidden_layers)]
    assert all(list(depths) == layers for depths in record["depths"].values())
    # The last depth is the whole model.
    native = record["backends"]["native"]["last_hidden_state"]
    assert record["depths"]["native"][layers[-1]]["max_abs"] == pytest.approx(native["max_abs"], rel=1e-3)


@pytest.mark.parametrize("precision", STORED)
def test_a_graph_names_every_tensor_once_in_its_type(exported, precision):
    program = exported("masked-lm", precision)
    model = onnx.load(str(program.with_suffix(".onnx")), load_external_data=False)
    wanted = {"float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16}[STORED[precision]]
    stored = [item for item in model.graph.initializer if item.data_location == onnx.TensorProto.EXTERNAL]
    for item in stored:
        norm = "layer_norm" in item.name
        assert item.data_type == (onnx.TensorProto.FLOAT if norm else wanted)
    assert len({item.name for item in stored}) == len(stored) == len(Predictor(program).manifest.tensors)
    assert all(output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for output in model.graph.output)
    assert not [node for node in model.graph.node if node.op_type in ("Identity", "Constant")]


@pytest.mark.parametrize("case", ["model-groups", "multiple-choice"])
def test_every_model_has_errors_for_every_depth(exported, case):
    manifest = Predictor(exported(case, "fp16")).manifest
    depths = manifest.verification["depths"]
    assert list(depths) == ["native", "onnxruntime"]
    for errors in depths.values():
        assert list(errors) == [str(depth + 1) for depth in range(manifest.config.num_hidden_layers)]
        assert all(one["cosine"] > 0.999 and one["max_abs"] > 0 for one in errors.values())


def test_the_other_program_format(exported, golden):
    program = exported("model-gelu", "bf16", "--format", "json")
    assert Predictor(program, backend="native").run(inputs_of(golden, "model-gelu"))
    if "paddle" in answering("bf16"):
        assert Predictor(program, backend="paddle").run(inputs_of(golden, "model-gelu"))
    else:
        assert_refused(program, "bf16", "paddle")


def assert_refused(program, precision, backend):
    with pytest.raises(BackendError) as refusal:
        Predictor(program, backend=backend)
    assert left_out(precision)[backend] in str(refusal.value)
    assert "use backend='native'" in str(refusal.value)


@pytest.mark.parametrize("precision", STORED)
def test_who_cannot_run_it_says_who_can(exported, precision):
    for backend in left_out(precision):
        assert_refused(exported("model-gelu", precision), precision, backend)


ON_AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ALBERT_FORCE_ISA": "avx2"}


def on_avx2(*command, **more):
    """The command as a machine without AVX-512 would run it."""
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env={**os.environ, **ON_AVX2, **more},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_export_leaves_out_what_the_processor_cannot_do(golden, tmp_path):
    """Paddle has no bfloat16 without AVX-512: the report and the manifest say so, and the rest is checked."""
    done = on_avx2("-m", "albert_export.cli", golden / "masked-lm", "-o", tmp_path, "--bf16")
    assert done.returncode == 0, done.stderr
    reason = "Paddle multiplies no bfloat16 on this processor; use backend='native'"
    assert f"paddle left out: {reason}" in done.stderr
    record = Predictor(tmp_path).manifest.verification
    assert record["left_out"]["paddle"] == reason and list(record["backends"]) == ["native"]
    assert record["backends"]["native"]["prediction_scores"]["cosine"] > 0.999


def test_auto_passes_over_what_the_processor_cannot_do(exported):
    """Its reason is one of those that are named where nothing else runs either."""
    code = """
import sys
from albert_runtime import BackendError, Predictor
from albert_runtime.backends.native import NativeBackend

def refuse(*arguments):
    raise BackendError("no engine")

NativeBackend.__init__ = refuse
Predictor(sys.argv[1])
"""
    done = on_avx2("-c", code, str(exported("model-gelu", "bf16")))
    assert done.returncode == 1
    assert "paddle: Paddle multiplies no bfloat16 on this processor" in done.stderr.splitlines()[-1]


def test_the_engine_computes_what_it_is_asked_for(exported):
    half, brain = exported("model-gelu", "fp16"), exported("model-gelu", "bf16")
    for program, precision, computes in (
        (half, "auto", "fp32"),
        (half, "fp16", "fp32"),
        (half, "bf16", "bf16"),
        (half, "int8", "int8"),
        (brain, "auto", "bf16"),
        (brain, "fp32", "fp32"),
    ):
        assert Predictor(program, precision=precision).info()["computes"] == computes
    with pytest.raises(BackendError, match="native does not run model-gelu-bf16, exported in bf16, in fp16;"):
        Predictor(brain, precision="fp16")
    with pytest.raises(
        BackendError, match="onnxruntime does not run model-gelu-fp16, exported in fp16, in fp32"
    ):
        Predictor(half, backend="onnxruntime", precision="fp32")


def test_values_beyond_float16_are_refused(run, tmp_path, tiny, tiny_tensors, write_checkpoint):
    tiny_tensors["pooler.weight"][0, 0] = 1e5
    folder = write_checkpoint(tmp_path / "loud", tiny, tiny_tensors)
    outcome = run(folder, "-o", tmp_path / "out", "--fp16", "--quiet")
    assert outcome.code == 1 and "pooler.weight holds 1e+05, float16 at most 65504; use --bf16" in outcome.err
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_two_precisions_are_one_too_many(run, tmp_path):
    outcome = run("albert-base-v2", "--fp16", "--bf16", "-o", tmp_path)
    assert outcome.code == 2 and "not allowed with" in outcome.err


def test_rounding(tiny):
    source = dict(RandomWeights(3).load(tiny, Head())[0])
    for precision in ("fp16", "bf16"):
        types = dtypes(tiny, Head(), PRECISIONS[precision])
        for name, values in rounded(source.items(), types):
            wide = from_bfloat16(values) if values.dtype == np.uint16 else values.astype(np.float32)
            step = 2.0**-24 if types[name] == "float32" else {"fp16": 2.0**-11, "bf16": 2.0**-8}[precision]
            assert (np.abs(wide - source[name]) <= step * np.abs(source[name]) + 2.0**-25).all()
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, 0.0, -0.0, 1e-40], np.float32)
    assert from_bfloat16(to_bfloat16(ties))[:2].tolist() == [1.0, 1 + 2**-6]
