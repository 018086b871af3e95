"""Proving: equal bits pass on every ISA, and whatever changes a bit is an error that says where."""

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from albert_runtime import ArtifactError, BackendError, Predictor, _native, proof
from albert_runtime.artifact.artifact import Artifact
from albert_runtime.artifact.manifest import Manifest
from albert_runtime.artifact.sentence import DENSE, NORMALIZE, SentenceHead, SentenceTexts, Step
from albert_runtime.artifact.tasks import TASKS
from albert_runtime.backends.native import NativeBackend
from albert_runtime.files import sha256_file

from .conftest import add_proof

PRECISIONS = ("fp32", "bf16", "int8")
LABELS = {"sequence-classification": ("bad", "good"), "token-classification": ("O", "B-PER", "I-PER")}
TEXTS = SentenceTexts({}, None, True)


def sentence(activation):
    return SentenceHead(("mean", "max"), (Step(DENSE, 24, 7, True, activation), Step(NORMALIZE)))


def with_hidden_states(path):
    manifest = Manifest.read(path)
    head = replace(manifest.head, hidden_states=True)
    replace(manifest, head=head, outputs=head.outputs(manifest.config)).write(path)
    return path


@pytest.fixture
def path(make_artifact):
    return add_proof(make_artifact())


def flip(path, tensor, bit=12, element=5):
    """Flip a bit of a stored number, and make the manifest believe that it was always so."""
    manifest = Manifest.read(path)
    record = next(one for one in manifest.tensors if one.name == tensor)
    weights = path.with_name(manifest.files["weights"].name)
    data = bytearray(weights.read_bytes())
    data[record.offset + 4 * element + bit // 8] ^= 1 << bit % 8
    weights.write_bytes(data)
    files = {**manifest.files, "weights": replace(manifest.files["weights"], sha256=sha256_file(weights))}
    replace(manifest, files=files).write(path)


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_proved_on_every_isa_in_every_precision(make_artifact, monkeypatch, task, isa):
    path = make_artifact(task=task, labels=LABELS.get(task, ()), max_position_embeddings=70)
    if task != "multiple-choice":
        with_hidden_states(path)
    add_proof(path)  # on the default ISA
    monkeypatch.setenv("ALBERT_FORCE_ISA", isa)
    for precision in PRECISIONS:
        for threads in (1, 3):
            predictor = Predictor(path, precision=precision, num_threads=threads, device="cpu", prove=True)
            outputs = predictor.manifest.outputs
            assert predictor.proved == proof.Proved("tiny", precision, isa, outputs, ())


@pytest.mark.parametrize("activation", ["Identity", "ReLU6", "LeakyReLU"])
def test_a_sentence_head_is_proved(make_artifact, monkeypatch, activation):
    path = add_proof(make_artifact(sentence=sentence(activation), sentence_texts=TEXTS))
    for isa in _native.isas():
        monkeypatch.setenv("ALBERT_FORCE_ISA", isa)
        proved = Predictor(path, backend="native", prove=True).proved
        assert proved.outputs == ("last_hidden_state", "pooled_output", "sentence_embedding")
    flip(path, "sentence.0.weight")
    with pytest.raises(BackendError, match="sentence_embedding in fp32"):
        Predictor(path, backend="native", prove=True)


@pytest.mark.parametrize("activation", ["Tanh", "GELU", "Sigmoid"])
def test_what_other_libraries_round_has_no_digest(make_artifact, activation):
    path = add_proof(make_artifact(sentence=sentence(activation), sentence_texts=TEXTS))
    proved = Predictor(path, backend="native", prove=True).proved
    assert proved.outputs == ("last_hidden_state", "pooled_output")
    assert proved.without_digest == ("sentence_embedding",)
    assert str(proved).endswith("last_hidden_state, pooled_output; sentence_embedding has no digest")


def test_a_digest_can_be_computed_from_what_the_documentation_says(make_artifact):
    path = add_proof(make_artifact(task="multiple-choice"))
    stored = json.loads(path.read_text())["proof"]
    width = max(len(row["input_ids"]) for row in stored["rows"])
    batch = {
        name: np.array([row[name] + [0] * (width - len(row[name])) for row in stored["rows"]])
        for name in ("input_ids", "token_type_ids")
    }
    batch["attention_mask"] = np.array(
        [[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in stored["rows"]]
    )
    batch = {name: values.reshape(2, 2, width) for name, values in batch.items()}
    logits = Predictor(path, backend="native").run(batch)["logits"]
    expected = hashlib.sha256(b"logits float32 2,2\n" + logits.astype("<f4").tobytes()).hexdigest()
    assert stored["digests"]["fp32"] == {"logits": expected}


def test_digests_tell_zeros_names_and_shapes_apart_but_not_nans():
    def digest(values, name="logits"):
        return proof.output_digest(name, np.array(values, np.float32))

    assert digest([0.0]) != digest([-0.0])
    assert digest([[1.0, 2.0]]) != digest([[1.0], [2.0]])
    assert digest([1.0]) != digest([1.0], "pooled_output")
    nans = np.array([0x7FC00000, 0xFFC00001, 0x7F800001], np.uint32).view(np.float32)
    assert len({digest(nans[i : i + 1]) for i in range(3)}) == 1
    columns = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert proof.output_digest("x", columns) == proof.output_digest("x", columns.copy())


MATRICES = [
    "embeddings.position_embeddings.weight",
    "embeddings.layer_norm.bias",
    "encoder.embedding_hidden_mapping_in.weight",
    "encoder.albert_layer_groups.0.albert_layers.0.attention.query.weight",
    "encoder.albert_layer_groups.0.albert_layers.0.attention.value.weight",
    "encoder.albert_layer_groups.0.albert_layers.0.ffn.weight",
    "encoder.albert_layer_groups.0.albert_layers.0.ffn_output.bias",
    "encoder.albert_layer_groups.0.albert_layers.0.full_layer_layer_norm.weight",
]


@pytest.mark.parametrize("tensor", MATRICES)
def test_one_flipped_bit_of_a_weight_is_caught(path, tensor):
    flip(path, tensor)
    assert Predictor(path, backend="native", verify=True).proved is None  # the hashes of the files agree
    isa = _native.default_isa()
    with pytest.raises(
        BackendError, match=rf"^tiny: last_hidden_state in fp32 on {isa} differs .*instead of"
    ):
        Predictor(path, backend="native", prove=True)


def test_a_weight_that_only_the_pooled_output_reads(path):
    flip(path, "pooler.bias")
    with pytest.raises(BackendError, match="pooled_output in fp32"):
        Predictor(path, backend="native", prove=True)


@pytest.mark.parametrize("changed", [{"layer_norm_eps": 1e-7}, {"hidden_act": "gelu"}])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_another_constant_in_a_kernel_is_caught(path, changed, precision):
    manifest = Manifest.read(path)
    replace(manifest, config=replace(manifest.config, **changed)).write(path)
    with pytest.raises(BackendError, match=f"last_hidden_state in {precision}"):
        Predictor(path, backend="native", precision=precision, prove=True)


def test_the_last_bit_of_one_number_is_caught(path, monkeypatch):
    """As a processor would be that rounds one product another way."""
    run = NativeBackend.run

    def off_by_one_bit(self, batch, outputs, score_tokens=None):
        found = run(self, batch, outputs, score_tokens)
        found["pooled_output"][1, 7] = np.nextafter(found["pooled_output"][1, 7], np.float32(2))
        return found

    monkeypatch.setattr(NativeBackend, "run", off_by_one_bit)
    with pytest.raises(BackendError, match=r"pooled_output in fp32 .*do not serve from here"):
        Predictor(path, backend="native", prove=True)


def test_answers_of_another_version_are_to_be_exported_again(path):
    flip(path, "pooler.bias")
    replace(Manifest.read(path), created_by={"albert-runtime": "0.0.1"}).write(path)
    with pytest.raises(BackendError, match=r"albert-runtime 0\.0\.1 exported it .*export it again"):
        Predictor(path, backend="native", prove=True)


def test_an_artifact_without_a_proof(make_artifact):
    with pytest.raises(ArtifactError, match=r"^tiny\.manifest\.json has no digests .*export the model again"):
        Predictor(make_artifact(), prove=True)


def test_a_program_without_a_manifest(path):
    path.unlink()
    with pytest.raises(ArtifactError, match=r"tiny has no tiny\.manifest\.json to prove it with"):
        Predictor(path.with_name("tiny.onnx"), prove=True)


def test_a_precision_without_digests(path):
    manifest = Manifest.read(path)
    digests = {"fp32": manifest.proof.digests["fp32"]}
    replace(manifest, proof=replace(manifest.proof, digests=digests)).write(path)
    with pytest.raises(ArtifactError, match="has digests for fp32, none for int8; choose another precision"):
        Predictor(path, backend="native", precision="int8", prove=True)


@pytest.mark.parametrize("backend", ["tensorrt", "gpu", "cuda", "onnxruntime", "paddle"])
def test_other_backends_cannot_be_proved(path, backend):
    with pytest.raises(BackendError, match=f"^what {backend} computes differs .*use backend='native'"):
        Predictor(path, backend=backend, prove=True)
    with pytest.raises(BackendError, match=f"^what {backend} computes differs"):  # chosen by auto
        proof.prove(Artifact.open(path), SimpleNamespace(name=backend), run=None)


def test_a_proved_predictor_keeps_its_backend(path):
    predictor = Predictor(path, backend="native", prove=True)
    with pytest.raises(BackendError, match="what tensorrt computes differs"):
        predictor.build()
    assert predictor.backend == "native"


def test_info_and_pickles(path):
    proved = json.loads(json.dumps(Predictor(path, backend="native", prove=True).info()))["proved"]
    assert proved == {
        "model": "tiny",
        "precision": "fp32",
        "isa": _native.default_isa(),
        "outputs": ["last_hidden_state", "pooled_output"],
        "without_digest": [],
    }
    assert Predictor(path, backend="native").info()["proved"] is None
    data = pickle.dumps(Predictor(path, backend="native", prove=True))
    assert pickle.loads(data).proved is not None
    flip(path, "pooler.bias")
    with pytest.raises(BackendError, match="pooled_output in fp32"):
        pickle.loads(data)


def test_a_stored_fp16_is_proved_in_what_it_is_computed_in(path):
    assert Predictor(_as_fp16(path), backend="native", prove=True).proved.precision == "fp32"


def _as_fp16(path: Path) -> Path:
    """Artifacts in fp16 may store any dtype; the engine computes them in fp32."""
    replace(Manifest.read(path), precision="fp16").write(path)
    return path
