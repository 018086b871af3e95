"""Folders with TensorFlow checkpoints: which one is read, by which name, and what lies beside it."""

import json
import shutil

import numpy as np
import pytest

from albert_export.checkpoint.config_json import HUGGING_FACE, TENSORFLOW
from albert_export.checkpoint.folder import read_folder
from albert_export.cli import _parser
from albert_export.errors import ExportError
from albert_export.sources import resolve, stem

from ....integration.checkpoints import TOKENIZERS
from .models import CONFIG, google, write_folder
from .writer import write_tensorflow

TENSORS = google(CONFIG)
OTHER = {**TENSORS, "bert/pooler/dense/bias": np.zeros(24, np.float32)}


def options(*arguments):
    return _parser().parse_args([str(argument) for argument in arguments])


def source(*arguments):
    """(the model, the line that says where it comes from)."""
    return resolve(options(*arguments), lambda variant: pytest.fail("no download"))


def pooler_bias(*arguments):
    model, _ = source(*arguments)
    tensors, _ = model.weights.load(model.config, model.head)
    return dict(tensors)["pooler.bias"]


@pytest.fixture(name="folder")
def two_checkpoints(tmp_path):
    """Steps 7 and 9, which differ in the pooler's bias."""
    folder = write_folder(tmp_path / "albert_base", CONFIG, TENSORS)
    write_tensorflow(folder, OTHER, name="model.ckpt-9")
    return folder


def test_one_checkpoint_is_the_folders(tmp_path):
    folder = write_folder(tmp_path / "albert_base", CONFIG, TENSORS, name="model.ckpt-best")
    (folder / "faiss.index").write_bytes(b"of another program")
    model, said = source(folder)
    assert model.weights.library == TENSORFLOW
    assert said.startswith(f"TensorFlow weights {folder}/model.ckpt-best.index, task model")
    assert read_folder(folder).description.notes == (
        "gelu is TensorFlow's, the tanh form, gelu_new elsewhere",
    )


def test_of_several_the_file_checkpoint_tells(folder):
    with pytest.raises(
        ExportError, match=r"several checkpoints \(model.ckpt-7, model.ckpt-9\); give one as MODEL"
    ):
        source(folder)
    state = folder / "checkpoint"
    for path in ("model.ckpt-9", "gs://bucket/run/model.ckpt-9", "C:\\\\run\\\\model.ckpt-9"):
        state.write_text(f'model_checkpoint_path: "{path}"\nall_model_checkpoint_paths: "model.ckpt-7"\n')
        np.testing.assert_array_equal(pooler_bias(folder), OTHER["bert/pooler/dense/bias"])
    state.write_text('model_checkpoint_path: "model.ckpt-11"\n')
    with pytest.raises(ExportError, match="several checkpoints"):
        source(folder)


@pytest.mark.parametrize("ending", ["", ".index"])
def test_a_prefix_names_one_of_several(folder, ending):
    for step, tensors in ((7, TENSORS), (9, OTHER)):
        prefix = f"{folder}/model.ckpt-{step}{ending}"
        np.testing.assert_array_equal(pooler_bias(prefix), tensors["bert/pooler/dense/bias"])
        assert stem(options(prefix)) == "albert_base"


def test_a_prefix_is_meant_whatever_else_the_folder_holds(folder, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.AlbertConfig(**{**CONFIG, "hidden_act": "relu"})
    transformers.AlbertModel(config).save_pretrained(tmp_path / "theirs")
    shutil.copytree(tmp_path / "theirs", folder, dirs_exist_ok=True)
    assert read_folder(folder).description.library == HUGGING_FACE
    model, _ = source(folder / "model.ckpt-7")
    assert model.weights.library == TENSORFLOW and model.config.hidden_act == "gelu_new"


def test_weights_for_another_folders_config(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(folder / "albert_config.json", other)
    for path in (folder / "model.ckpt-9", folder / "model.ckpt-9.index"):
        bias = pooler_bias(other, "--weights", path)
        np.testing.assert_array_equal(bias, OTHER["bert/pooler/dense/bias"])
    with pytest.raises(ExportError, match=r"holds none of .* or NAME.index with NAME.data-\*"):
        source(other)
    assert source(other, "--random-weights")[0].config == source(folder / "model.ckpt-7")[0].config


def test_weights_of_a_variant_must_be_that_model(folder):
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-9"')
    with pytest.raises(ExportError, match=r"is not albert-base-v2: .*hidden_size 24 instead of 768"):
        source("albert-base-v2", "--weights", folder)
    with pytest.raises(ExportError, match=r"read as TensorFlow's weights for task model: .*of another shape"):
        source("albert-base-v2", "--weights", folder / "model.ckpt-7")


def test_missing_parts_are_named(folder):
    (folder / "model.ckpt-7.data-00000-of-00001").unlink()
    with pytest.raises(ExportError, match=r"needs model.ckpt-7.data-00000-of-00001, which is not there"):
        source(folder / "model.ckpt-7")
    (folder / "albert_config.json").unlink()
    with pytest.raises(ExportError, match=r"holds model.ckpt-9.index, but no albert_config.json"):
        source(folder)


def test_a_head_of_run_squad_v2_is_one_line_that_says_what_can_be_had(tmp_path):
    folder = write_folder(tmp_path / "albert", CONFIG, google(CONFIG, "squad_v2"))
    with pytest.raises(ExportError, match=r"run_squad_v2 .* is unknown; say with --task what to export"):
        source(folder)
    assert source(folder, "--task", "model")[0].head.task == "model"


TEXTS = ["The quick brown FOX, quite zealous!", "Ada Lovelace, \u00c9tude in 1843"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [("pieces", "30k-clean.model"), ("word pieces", "vocab.txt"), ("word pieces", "vocab_chinese.txt")],
)
def test_the_vocabulary_beside_it(tmp_path, kind, name):
    """Both codes fold case unless --do_lower_case=False is given, as transformers' classes do by default."""
    tokenizers = pytest.importorskip("tokenizers")
    pytest.importorskip("transformers")
    write, read = TOKENIZERS[kind]
    write(tmp_path)
    theirs = read(tmp_path)
    config = {**CONFIG, "vocab_size": len(theirs)}
    folder = write_folder(tmp_path, config, google(config))
    (folder / ("spiece.model" if kind == "pieces" else "vocab.txt")).rename(folder / name)
    ours = tokenizers.Tokenizer.from_str(source(folder)[0].tokenizer.json.decode())
    for text in TEXTS:
        assert ours.encode(text).ids == theirs(text)["input_ids"]
    kept = tokenizers.Tokenizer.from_str(source(folder, "--no-lowercase")[0].tokenizer.json.decode())
    if kind != "pieces":  # the pieces' own character map folds case, too
        assert kept.encode(TEXTS[0]).ids != ours.encode(TEXTS[0]).ids
    # A file that says otherwise is listened to.
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    told = tokenizers.Tokenizer.from_str(source(folder)[0].tokenizer.json.decode())
    assert told.encode(TEXTS[0]).ids == kept.encode(TEXTS[0]).ids
