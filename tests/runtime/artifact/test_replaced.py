"""Files replaced under a Predictor: once it has loaded they do not matter, until then it is an error."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from albert_runtime import ArtifactError, Predictor
from albert_runtime.artifact import artifact as module
from albert_runtime.artifact.artifact import Artifact
from albert_runtime.artifact.sentence import DENSE, SentenceHead, SentenceTexts, Step
from albert_runtime.backends import native

TINY = Path(__file__).parents[2] / "data" / "artifacts" / "schema-1"
BACKENDS = ("native", "onnxruntime", "paddle")
IDS = [[2, 5, 6, 7, 3], [2, 9, 3]]
TEXTS = ["a b c", "c a"]


@pytest.fixture
def tiny(tmp_path):
    """A copy of the artifact that every backend runs."""
    return Path(shutil.copytree(TINY, tmp_path / "tiny"))


@pytest.fixture
def two(make_artifact, tokenizer_file, piece_tokenizer, tmp_path):
    """Folders of two exports of one name, whose weights and tokenizers differ."""
    make_artifact(folder=tmp_path / "old", tokenizer=tokenizer_file)
    make_artifact(folder=tmp_path / "new", tokenizer=piece_tokenizer, seed=1)
    return tmp_path / "old", tmp_path / "new"


def replace_by_renaming(old, new):
    """As albert-export --force does: each file complete before it takes its place, the manifest last."""
    for source in sorted(new.iterdir(), key=lambda path: path.name.endswith(".manifest.json")):
        part = old / f".{source.name}"
        shutil.copy(source, part)
        part.replace(old / source.name)


def overwrite(path, content):
    """A file of the same size in the place of another, which keeps its content: it may be mapped."""
    assert len(content) == path.stat().st_size
    part = path.with_name("part")
    part.write_bytes(content)
    part.replace(path)


def with_other_floats(path):
    """The bytes of a weight file, its second half, which the word embeddings do not reach, negated."""
    data = bytearray(path.read_bytes())
    for index in range(len(data) // 2, len(data)):
        data[index] ^= 0x80
    return bytes(data)


def assert_equal(left, right):
    assert list(left) == list(right)
    for name, values in left.items():
        np.testing.assert_array_equal(values, right[name], err_msg=name)


def test_the_first_text_after_a_replacement_meets_the_tokenizer_that_was_loaded(two):
    old, new = two
    expected, other = (Predictor(folder, backend="native").run(TEXTS) for folder in two)
    predictor = Predictor(old, backend="native")
    replace_by_renaming(old, new)
    assert_equal(predictor.run(TEXTS), expected)
    assert_equal(Predictor(old, backend="native").run(TEXTS), other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_replaced_or_removed_artifact_answers_as_before(tiny, backend):
    pytest.importorskip(backend if backend != "native" else "numpy")
    predictor = Predictor(tiny, backend=backend)
    expected = predictor.run({"input_ids": IDS[:1]})
    overwrite(tiny / "tiny.pdiparams", with_other_floats(tiny / "tiny.pdiparams"))
    assert_equal(predictor.run({"input_ids": IDS[:1]}), expected)
    shutil.rmtree(tiny)
    assert_equal(predictor.run({"input_ids": IDS[:1]}), expected)


def test_a_sentence_head_is_read_at_load(make_artifact, tokenizer_file, tmp_path):
    path = make_artifact(
        tokenizer=tokenizer_file,
        sentence=SentenceHead(("mean",), (Step(DENSE, 12, 7, True, "Tanh"),)),
        sentence_texts=SentenceTexts({"p": "a b "}, None, False),
    )
    expected = Predictor(path).embed(TEXTS, prompt_name="p")
    predictor = Predictor(path)
    shutil.rmtree(path.parent)
    np.testing.assert_array_equal(predictor.embed(TEXTS, prompt_name="p"), expected)


@pytest.mark.parametrize(
    "given", ["artifact", "artifact/tiny", "./artifact/tiny.onnx", "artifact/tiny.manifest.json"]
)
def test_a_relative_path_and_another_current_folder(
    make_artifact, tokenizer_file, monkeypatch, tmp_path, given
):
    expected = Predictor(make_artifact(tokenizer=tokenizer_file), backend="native").run(TEXTS)
    monkeypatch.chdir(tmp_path)
    predictor = Predictor(given, backend="native")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert_equal(predictor.run(TEXTS), expected)
    assert all(Path(file).is_file() for file in predictor.info()["files"].values())
    assert str(tmp_path) in repr(predictor)


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_of_another_export_under_a_manifest(tiny, monkeypatch, backend):
    pytest.importorskip(backend if backend != "native" else "numpy")
    monkeypatch.setenv("ALBERT_PACKED_CACHE", "0")
    overwrite(tiny / "tiny.pdiparams", with_other_floats(tiny / "tiny.pdiparams"))
    with pytest.raises(ArtifactError, match=r"tiny\.pdiparams is corrupted \(sha256 .*restore it or export"):
        Predictor(tiny, backend=backend)


def test_the_tokenizer_of_another_export_under_a_manifest(make_artifact, tokenizer_file):
    path = make_artifact(tokenizer=tokenizer_file)
    file = path.with_name("tiny.tokenizer.json")
    overwrite(file, file.read_bytes().replace(b'"a"', b'"z"'))
    with pytest.raises(ArtifactError, match=r"tiny\.tokenizer\.json is corrupted \(sha256"):
        Predictor(path, backend="native")


def test_a_sentence_head_of_another_export_under_a_manifest(make_artifact, tokenizer_file):
    """Though the engine finds the layers packed, and reads no more than the word embeddings."""
    options = {
        "tokenizer": tokenizer_file,
        "sentence": SentenceHead(("mean",), (Step(DENSE, 12, 7, True, "Tanh"),)),
        "sentence_texts": SentenceTexts({}, None, True),
    }
    path = make_artifact(**options)
    Predictor(path)
    native._engines.clear()
    weights = path.with_name("tiny.pdiparams")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 0x80  # of the dense step's bias
    overwrite(weights, bytes(data))
    with pytest.raises(ArtifactError, match=r"tiny\.pdiparams is corrupted"):
        Predictor(path)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("role", ["weights", "program", "onnx"])
def test_a_replacement_between_the_check_and_the_load(tiny, monkeypatch, backend, role):
    pytest.importorskip(backend if backend != "native" else "numpy")
    monkeypatch.setenv("ALBERT_PACKED_CACHE", "0")
    native._engines.clear()
    verify_file = Artifact.verify_file

    def verify_and_replace(artifact, checked):
        verify_file(artifact, checked)
        shutil.copy2(artifact.files[role], tiny / "part")  # the same content, size and time of writing
        (tiny / "part").replace(artifact.files[role])

    monkeypatch.setattr(Artifact, "verify_file", verify_and_replace)
    with pytest.raises(
        ArtifactError, match=rf"{Artifact.open(tiny).files[role].name} was replaced while the model"
    ):
        Predictor(tiny, backend=backend)


def test_what_was_replaced_before_it_was_packed_is_kept_nowhere(tiny, monkeypatch):
    """Neither for other Predictors nor in the cache of packed weights, whose keys are the manifest's."""
    expected = Predictor(tiny, backend="paddle").run({"input_ids": IDS[:1]})
    native._engines.clear()
    weights, isa = tiny / "tiny.pdiparams", native.chosen_isa()
    good = weights.read_bytes()
    monkeypatch.setenv("ALBERT_PACKED_CACHE", str(tiny / "packed"))

    def replace_and_choose():
        overwrite(weights, with_other_floats(weights))
        return isa

    with monkeypatch.context() as patch:
        patch.setattr(native, "chosen_isa", replace_and_choose)
        with pytest.raises(ArtifactError, match=r"tiny\.pdiparams was replaced while the model was loaded"):
            Predictor(tiny, backend="native", verify=True)
    overwrite(weights, good)
    answer = Predictor(tiny, backend="native").run({"input_ids": IDS[:1]})
    for name, values in expected.items():
        np.testing.assert_allclose(answer[name], values, atol=2e-5)


def test_a_replacement_in_the_middle_of_a_load(two, monkeypatch):
    """The old manifest and the new tokenizer: told as what it is, not as damage."""
    old, new = two
    opened = Artifact.open

    def open_and_replace(path):
        artifact = opened(path)
        replace_by_renaming(old, new)
        return artifact

    monkeypatch.setattr(Artifact, "open", open_and_replace)
    with pytest.raises(ArtifactError, match="was replaced while the model was loaded; load it again"):
        Predictor(old, backend="native")


def test_a_tokenizer_too_large_to_be_one(make_artifact, tokenizer_file, monkeypatch):
    path = make_artifact(tokenizer=tokenizer_file)
    monkeypatch.setattr(module, "_MAX_READ", 100)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is larger than 0 MiB; it is no tokenizer"):
        Predictor(path, backend="native")


def test_the_engine_of_another_artifact_is_not_built(two, runtime):
    old, new = two
    predictor = Predictor(old, backend="native")
    replace_by_renaming(old, new)
    with pytest.raises(ArtifactError, match="was replaced since it was loaded; make another Predictor"):
        predictor.build()
    assert predictor.backend == "native"
