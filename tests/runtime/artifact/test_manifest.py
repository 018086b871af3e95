"""Manifest: the round trip, and files that someone damaged or forged."""

import copy
import json
import math
import re
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from albert_runtime.artifact.artifact import Artifact
from albert_runtime.artifact.json_fields import MAX_BYTES
from albert_runtime.artifact.manifest import Manifest
from albert_runtime.artifact.tasks import LABELLED, Head
from albert_runtime.artifact.tensor_table import ITEM_SIZES, TensorRecord, tensor_shapes
from albert_runtime.errors import ArtifactError

REMOVED = object()


@pytest.fixture
def path(make_artifact):
    return make_artifact()


@pytest.fixture
def data(path):
    return json.loads(path.read_text())


def changed(data, keys, value):
    data = copy.deepcopy(data)
    target = data
    for key in keys[:-1]:
        target = target[key]
    if value is REMOVED:
        del target[keys[-1]]
    else:
        target[keys[-1]] = value
    return data


def refusal(path):
    with pytest.raises(ArtifactError) as caught:
        Artifact.open(path)
    message = str(caught.value)
    assert message.startswith("tiny.manifest.json: ")
    assert "\n" not in message
    assert len(message) < 500
    return message


def test_round_trip(path, tmp_path):
    manifest = Manifest.read(path)
    assert manifest.config.vocab_size == 50
    assert manifest.tensors[0].shape == (50, 8)
    assert manifest.files["weights"].name == "tiny.pdiparams"
    manifest.write(tmp_path / "again.manifest.json")
    assert Manifest.read(tmp_path / "again.manifest.json") == manifest
    assert (tmp_path / "again.manifest.json").read_bytes() == path.read_bytes()


def test_keys_of_a_later_version_of_the_schema_are_left_alone(path, data):
    path.write_text(json.dumps({**data, "comment": "added by a newer version"}))
    assert Artifact.open(path).manifest.name == "tiny"


BAD_VALUES = [
    ("schema", 2, "written by a newer albert-runtime (schema 2); upgrade albert-runtime"),
    ("schema", 0, "schema is 0"),
    ("schema", "1", "schema must be a whole number, not 1"),
    ("schema", True, "schema must be a whole number"),
    ("schema", REMOVED, "schema is missing"),
    ("name", 3, "name must be a string"),
    ("task", "translation", "task is translation; this albert-runtime knows model, masked-lm"),
    ("task", "masked-lm", "head is that of model, the task is masked-lm"),
    ("task", ["model"], "task must be a string"),
    ("head", [], "head must be an object or null, not []"),
    ("head", {"task": "model"}, "head is wrong: head must have exactly the fields task, num_labels"),
    (
        "precision",
        "int2",
        "precision is int2; this albert-runtime knows fp32, fp16, bf16, int8; upgrade it or export again",
    ),
    ("labels", ["a", 1], "labels must hold strings"),
    ("labels", ["a", "b"], "labels must be null for model"),
    ("inputs", ["input_ids"], "inputs is ['input_ids'], not"),
    ("outputs", ["last_hidden_state"], "outputs is ['last_hidden_state'], not"),
    ("outputs", "last_hidden_state", "outputs must be a list"),
    ("config", [], "config must be an object"),
    ("config.hidden_size", 13, "config field hidden_size (13) must be a multiple of num_attention_heads"),
    ("config.hidden_size", -12, "config field hidden_size must lie between"),
    ("config.vocab_size", 2**40, "config field vocab_size must lie between"),
    ("config.layer_norm_eps", 10**18, "config field layer_norm_eps must lie between"),
    ("config.num_hidden_layers", 3.0, "config field num_hidden_layers must be a whole number"),
    ("config.hidden_act", ["gelu"], "config field hidden_act must be one of"),
    ("config.hidden_act", "x" * 10**6, "config field hidden_act must be one of"),
    ("config.padding_idx", REMOVED, "config field padding_idx is missing"),
    ("config.dropout", 0.1, "config field 'dropout' is unknown"),
    ("config.vocab_size", 51, "has shape [50, 8], the config asks for [51, 8]"),
    ("config.inner_group_num", 2, "tensors lacks encoder.albert_layer_groups.0.albert_layers.1"),
    ("config.inner_group_num", 64, "fewer than the config's layer groups need"),
    ("files", REMOVED, "files is missing"),
    ("files.weights", REMOVED, "files.weights is missing"),
    ("files.weights", "tiny.pdiparams", "files.weights must be an object"),
    ("files.script", {"name": "x", "size": 1, "sha256": "0" * 64}, "files.script is unknown"),
    (
        "files.weights.name",
        "../tiny.pdiparams",
        "files.weights.name is ../tiny.pdiparams; it must be a plain",
    ),
    ("files.weights.name", "/etc/passwd", "it must be a plain file name in the manifest's folder"),
    ("files.weights.name", "a\\b", "it must be a plain file name"),
    ("files.weights.name", "..", "it must be a plain file name"),
    ("files.weights.name", ".", "it must be a plain file name"),
    ("files.weights.name", "", "it must be a plain file name"),
    ("files.weights.name", "a\0b", "it must be a plain file name"),
    ("files.weights.name", "a\nb", "it must be a plain file name"),
    ("files.weights.name", "\ud800", "it must be a plain file name"),
    ("files.weights.name", "x" * 256, "it must be a plain file name"),
    ("files.weights.size", -1, "files.weights.size is -1"),
    ("files.weights.size", 1.5, "files.weights.size must be a whole number"),
    ("files.weights.sha256", "0" * 63, "files.weights.sha256 is not 64 hexadecimal digits"),
    ("tensors", {}, "tensors must be a list"),
    ("tensors", [], "tensors holds 0 tensors"),
    ("tensors.3", None, "tensors[3] must be an object"),
    ("tensors.3", REMOVED, "tensors lacks embeddings.layer_norm.weight"),
    ("tensors.3.name", "pooler.bias", "tensors lacks embeddings.layer_norm.weight"),
    ("tensors.3.shape", [8.0], "tensors[3].shape must hold whole numbers"),
    ("tensors.3.shape", 8, "tensors[3].shape must be a list"),
    ("tensors.3.shape", [4, 2], "has shape [4, 2], the config asks for [8]"),
    ("tensors.3.dtype", "float64", "has dtype float64; known are float32"),
    ("tensors.0.dtype", "int8", "tensors lacks embeddings.word_embeddings.weight_scale"),
    ("tensors.3.length", 31, "has length 31, its shape and dtype need 32"),
    ("tensors.3.offset", -5, "outside the weight file"),
    ("tensors.3.offset", 10**18, "outside the weight file"),
    ("tensors.3.offset", 10, "overlaps"),
    ("verification", None, "verification must be an object"),
    ("verification", {"left_out": "paddle"}, "verification.left_out must be an object of texts"),
    ("verification", {"left_out": {"paddle": 1}}, "verification.left_out must be an object of texts"),
]


@pytest.mark.parametrize(("where", "value", "message"), BAD_VALUES, ids=range(len(BAD_VALUES)))
def test_bad_values(path, data, where, value, message):
    keys = [int(key) if key.isdigit() else key for key in where.split(".")]
    path.write_text(json.dumps(changed(data, keys, value)))
    assert message in refusal(path)


def with_int8(manifest, name, scales, dtype="float32"):
    """The tensor table, packed anew, with one tensor as int8 and behind it its scales."""
    records, offset = [], 0
    for tensor in manifest.tensors:
        kinds = [(tensor.name, tensor.dtype, tensor.shape)]
        if tensor.name == name:
            kinds = [(name, "int8", tensor.shape), (f"{name}_scale", dtype, scales)]
        for each, kind, shape in kinds:
            records.append(TensorRecord(each, kind, shape, offset, ITEM_SIZES[kind] * math.prod(shape)))
            offset += records[-1].length
    return replace(manifest, tensors=tuple(records)).to_dict()


WORDS, MAPPING = "embeddings.word_embeddings.weight", "encoder.embedding_hidden_mapping_in.weight"


def test_int8_tensors_have_scales(path):
    manifest = Manifest.read(path)
    for name, scales in ((WORDS, (50,)), (MAPPING, (12,))):  # of rows, and of columns
        path.write_text(json.dumps(with_int8(manifest, name, scales)))
        assert Manifest.read(path).tensors != manifest.tensors


@pytest.mark.parametrize(
    ("name", "scales", "dtype", "message"),
    [
        (WORDS, (8,), "float32", "has shape [8], the config asks for [50]"),
        (MAPPING, (8,), "float32", "has shape [8], the config asks for [12]"),
        (MAPPING, (12,), "float16", "has dtype float16, scales are float32"),
        ("embeddings.layer_norm.bias", (), "float32", "has dtype int8, which only a matrix can have"),
    ],
)
def test_int8_tensors_of_the_wrong_kind(path, name, scales, dtype, message):
    path.write_text(json.dumps(with_int8(Manifest.read(path), name, scales, dtype)))
    assert message in refusal(path)


def test_calibration_is_kept(path, data):
    path.write_text(json.dumps({**data, "calibration": {"text": "a.txt"}}))
    manifest = Manifest.read(path)
    assert manifest.calibration == {"text": "a.txt"} == manifest.to_dict()["calibration"]
    path.write_text(json.dumps({**data, "calibration": [1]}))
    assert "calibration must be an object" in refusal(path)


HEADS = {
    "masked-lm": Head.of("masked-lm"),
    "untied": Head.of("masked-lm", tied_decoder=False, decoder_norm_eps=1e-12),
    "sequence-classification": Head.of("sequence-classification", num_labels=3),
    "sigmoid": Head.of("sequence-classification", num_labels=1, activation="sigmoid"),
    "token-classification": Head.of("token-classification", num_labels=1),
    "question-answering": Head.of("question-answering"),
    "multiple-choice": Head.of("multiple-choice"),
    "pretraining": Head.of("pretraining"),
}


def with_head(manifest, head):
    """The manifest of a model with a head, its tensors one after another."""
    config = replace(manifest.config, add_pooling_layer=head.reads_pooled)
    records, offset = [], 0
    for name, shape in tensor_shapes(config, head).items():
        records.append(TensorRecord(name, "float32", shape, offset, 4 * math.prod(shape)))
        offset += records[-1].length
    weights = replace(manifest.files["weights"], size=offset)
    return replace(
        manifest,
        task=head.task,
        head=head,
        config=config,
        labels=tuple(f"LABEL_{i}" for i in range(head.num_labels)) if head.task in LABELLED else None,
        outputs=head.outputs(config),
        tensors=tuple(records),
        files={**manifest.files, "weights": weights},
    )


@pytest.mark.parametrize("name", HEADS)
def test_round_trip_with_a_head(path, tmp_path, name):
    manifest = with_head(Manifest.read(path), HEADS[name])
    manifest.write(tmp_path / "again.manifest.json")
    again = Manifest.read(tmp_path / "again.manifest.json")
    assert again == manifest and again.head == HEADS[name]
    written = json.loads((tmp_path / "again.manifest.json").read_text())
    assert list(written)[:4] == ["schema", "name", "task", "head"]
    assert written["head"]["tied_decoder"] is (name in ("masked-lm", "pretraining"))


def test_a_manifest_from_before_there_were_heads(path, data):
    assert data.pop("head") is None
    path.write_text(json.dumps(data))
    assert Artifact.open(path).manifest.head == Head()


BAD_HEADS = [
    ("sequence-classification", "labels", None, "labels is null, the head has 3 columns"),
    ("sequence-classification", "labels", ["a", "b"], "labels is 2 names, the head has 3 columns"),
    ("sequence-classification", "labels", ["a", "b", "\ud800"], "labels holds a lone surrogate"),
    ("sequence-classification", "head.num_labels", 4, "labels is 3 names, the head has 4 columns"),
    ("sequence-classification", "head.num_labels", 2**40, "head is wrong: num_labels of sequence"),
    ("sequence-classification", "head.num_labels", True, "num_labels must be a whole number"),
    ("sequence-classification", "head.task", "token-classification", "head is that of token-class"),
    ("sequence-classification", "head.task", ["model"], "head is wrong: task ['model'] is unknown"),
    ("sequence-classification", "head.task", "x" * 10**6, "head is wrong: task 'xxxx"),
    ("sequence-classification", "head", None, "head is that of model, the task is sequence-class"),
    ("sequence-classification", "head", REMOVED, "head is that of model, the task is sequence-class"),
    ("sequence-classification", "head.tied_decoder", True, "tied_decoder of sequence-classification must"),
    ("sequence-classification", "head.extra", 1, "head must have exactly the fields"),
    ("sequence-classification", "head.multi_label", 1, "multi_label must be false, or true for sequence"),
    (
        "sequence-classification",
        "head.activation",
        "tanh",
        "activation must be null, or one of none, sigmoid",
    ),
    ("sequence-classification", "head.activation", ["none"], "activation must be null, or one of none"),
    ("token-classification", "head.activation", "none", "activation must be null, or one of none, sigmoid"),
    ("token-classification", "head.multi_label", True, "multi_label must be false, or true for sequence"),
    ("sequence-classification", "config.add_pooling_layer", False, "must have add_pooling_layer true"),
    ("sequence-classification", "outputs", ["last_hidden_state"], "outputs is ['last_hidden_state'], not"),
    ("question-answering", "labels", ["start", "end"], "labels must be null for question-answering"),
    ("question-answering", "head.num_labels", 3, "num_labels of question-answering must lie between 2 and"),
    ("question-answering", "config.add_pooling_layer", True, "must have add_pooling_layer false"),
    ("masked-lm", "head.decoder_norm_eps", 0.0, "decoder_norm_eps must lie between 0 and 1"),
    ("masked-lm", "head.decoder_norm_eps", "1e-5", "decoder_norm_eps must lie between 0 and 1"),
    ("masked-lm", "head.tied_decoder", False, "tensors lacks predictions.decoder.weight"),
    ("masked-lm", "head.tied_decoder", 1, "tied_decoder of masked-lm must be false"),
    ("untied", "head.tied_decoder", True, "tensors has an unknown tensor predictions.decoder.weight"),
]


@pytest.mark.parametrize(("name", "where", "value", "message"), BAD_HEADS, ids=range(len(BAD_HEADS)))
def test_bad_heads(path, name, where, value, message):
    data = with_head(Manifest.read(path), HEADS[name]).to_dict()
    path.write_text(json.dumps(changed(data, where.split("."), value)))
    assert message in refusal(path)


def test_tensors_twice_or_unknown(path, data):
    tensor = data["tensors"][0]
    path.write_text(json.dumps({**data, "tensors": [*data["tensors"], tensor]}))
    assert "tensors names a tensor twice" in refusal(path)
    path.write_text(json.dumps({**data, "tensors": [*data["tensors"], {**tensor, "name": "backdoor"}]}))
    assert "tensors has an unknown tensor backdoor" in refusal(path)


BAD_FILES = [
    (b"", "is not a valid manifest"),
    (b"\xff\xfe", "is not a valid manifest ('utf-8' codec"),
    (b"[]", "is not a JSON object"),
    (b"{", "is not a valid manifest"),
    (b'{"schema": NaN}', "NaN is no finite number"),
    (b'{"schema": -Infinity}', "-Infinity is no finite number"),
    (b'{"schema": 1e999}', "1e999 is no finite number"),
    (b'{"schema": 1, "schema": 2}', "key 'schema' occurs twice"),
    (b'{"schema": ' + b"9" * 5000 + b"}", "is too large"),
    (b"[" * 10**6, "nested too deeply"),
    (b'{"a":' * 10**6, "nested too deeply"),
    (b" " * (MAX_BYTES + 1), "is larger than 16 MiB"),
]


@pytest.mark.parametrize(("content", "message"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_bad_files(path, content, message):
    path.write_bytes(content)
    assert message in refusal(path)


def test_a_key_twice_among_very_many_is_found_fast(path):
    keys = ",".join(f'"{i}":0' for i in range(10**6))
    path.write_text(f'{{{keys},"999999":0}}')
    assert "key '999999' occurs twice" in refusal(path)


def places(node, path=()):
    """Every place within a JSON value."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(choice=st.data())
def test_only_artifact_errors_escape_a_mutated_manifest(path, data, choice):
    for _ in range(choice.draw(st.integers(1, 3))):
        keys = choice.draw(st.sampled_from(list(places(data))))
        data = changed(data, keys, choice.draw(st.just(REMOVED) | JSON))
    path.write_text(json.dumps(data))
    try:
        Artifact.open(path)
    except ArtifactError as error:
        assert "\n" not in str(error)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(choice=st.data())
def test_only_artifact_errors_escape_damaged_bytes(path, data, choice):
    raw = bytearray(json.dumps(data).encode())
    start = choice.draw(st.integers(0, len(raw)))
    raw[start : start + choice.draw(st.integers(0, 40))] = choice.draw(st.binary(max_size=8))
    path.write_bytes(raw)
    try:
        Artifact.open(path)
    except ArtifactError as error:
        assert not re.search(r"[\r\n]", str(error))


def test_the_length_that_texts_are_cut_to(path, data):
    """A manifest without it is read as before, and written without it."""
    assert Manifest.read(path).max_length is None
    assert "max_length" not in Manifest.read(path).to_dict()
    positions = data["config"]["max_position_embeddings"]
    path.write_text(json.dumps({**data, "max_length": positions}))
    manifest = Manifest.read(path)
    assert manifest.max_length == positions == manifest.to_dict()["max_length"]
    for value, message in (
        (positions + 1, "max_length is"),
        (0, "max_length is 0"),
        ("8", "max_length must be"),
    ):
        path.write_text(json.dumps({**data, "max_length": value}))
        assert message in refusal(path)
