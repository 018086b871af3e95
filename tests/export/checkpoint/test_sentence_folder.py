"""modules.json and what lies beside it: what is read, and what is refused in one line."""

import json

import pytest

from albert_export.checkpoint.sentence_folder import cross_encoder_said, read_sentence_folder
from albert_export.errors import ExportError
from albert_export.tokenizer.lowercase import lowercased
from albert_runtime.artifact.sentence import DENSE, NORMALIZE, SentenceTexts, Step
from albert_runtime.errors import AlbertError

TANH = "torch.nn.modules.activation.Tanh"
MODULES = ("Transformer", "Pooling", "Dense", "Normalize")


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


@pytest.fixture
def folder(tmp_path):
    """Transformer, Pooling (mean), Dense and Normalize, all in the older form."""
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": f"{index}_{kind}" if index else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, kind in enumerate(MODULES)
    ]
    write(tmp_path / "modules.json", modules)
    write(tmp_path / "sentence_bert_config.json", {"max_seq_length": 30, "do_lower_case": True})
    flags = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    write(tmp_path / "1_Pooling/config.json", {"word_embedding_dimension": 8, **flags})
    write(
        tmp_path / "2_Dense/config.json",
        {"in_features": 8, "out_features": 3, "bias": True, "activation_function": TANH},
    )
    write(tmp_path / "2_Dense/model.safetensors", "")
    return tmp_path


def edit(path, keys, value):
    data = json.loads(path.read_text()) if path.is_file() else {}
    target = data
    for key in keys[:-1]:
        target = target[key]
    target[keys[-1]] = value
    write(path, data)


def test_what_is_read(folder):
    found = read_sentence_folder(folder)
    assert found.transformer == folder and found.head.pooling == ("mean",)
    assert found.head.steps == (Step(DENSE, 8, 3, True, "Tanh"), Step(NORMALIZE))
    assert found.files == (folder / "2_Dense/model.safetensors",)
    assert (found.lowercase, found.max_seq_length) == (True, 30)
    assert found.texts == SentenceTexts({"query": "", "document": ""}, None, True)


def test_no_modules_and_a_cross_encoder(folder):
    edit(folder / "config_sentence_transformers.json", ["model_type"], "CrossEncoder")
    assert read_sentence_folder(folder) is None
    (folder / "modules.json").unlink()
    assert read_sentence_folder(folder) is None


def test_what_a_cross_encoder_says(folder):
    """As 6.2.0 writes it: the activation beside the config, one module."""
    path = folder / "config_sentence_transformers.json"
    assert cross_encoder_said(folder) == {}
    name = "torch.nn.modules.activation.Sigmoid"
    write(path, {"model_type": "CrossEncoder", "activation_fn": name, "default_prompt_name": None})
    with pytest.raises(ExportError, match="must be one Transformer, not Transformer, Pooling, D"):
        cross_encoder_said(folder)
    write(folder / "modules.json", json.loads((folder / "modules.json").read_text())[:1])
    assert cross_encoder_said(folder) == {"sentence_transformers": {"activation_fn": name}}
    edit(path, ["default_prompt_name"], "query")
    with pytest.raises(ExportError, match="the default prompt of a CrossEncoder cannot be exported"):
        cross_encoder_said(folder)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"pooling_mode": "lasttoken"}, ("lasttoken",)),
        ({"pooling_mode": ["max", "cls"]}, ("max", "cls")),
        (
            {"pooling_mode_mean_sqrt_len_tokens": True, "pooling_mode_cls_token": True},
            ("cls", "mean_sqrt_len_tokens"),
        ),
        ({"pooling_mode_weightedmean_tokens": True, "pooling_mode_mean_tokens": False}, ("weightedmean",)),
        ({"pooling_mode_cls_token": False}, ("mean",)),
    ],
)
def test_forms_of_pooling(folder, config, expected):
    """In the package's own order, mean where none is set: Pooling.load_config of 6.2.0."""
    write(folder / "1_Pooling/config.json", {"embedding_dimension": 8, **config})
    assert read_sentence_folder(folder).head.pooling == expected


def test_older_names_of_the_encoder_s_settings(folder):
    (folder / "sentence_bert_config.json").rename(folder / "sentence_albert_config.json")
    assert read_sentence_folder(folder).max_seq_length == 30


BERT, POOLING, DENSE_CONFIG = "sentence_bert_config.json", "1_Pooling/config.json", "2_Dense/config.json"
ST = "sentence_transformers.models."
SETTINGS = "config_sentence_transformers.json"


@pytest.mark.parametrize(
    ("file", "keys", "value", "message"),
    [
        (
            "modules.json",
            [2, "type"],
            "sentence_transformers.models.CNN",
            "module CNN cannot be exported; known",
        ),
        (
            "modules.json",
            [2, "type"],
            "evil.Dense",
            "module evil.Dense is none of sentence-transformers' own",
        ),
        (
            "modules.json",
            [1, "type"],
            "sentence_transformers.models.WeightedLayerPooling",
            "must begin with Transf",
        ),
        ("modules.json", [1, "path"], "../1_Pooling", "path ../1_Pooling of a module leaves the folder"),
        ("modules.json", [1, "path"], "/etc", "path /etc of a module leaves the folder"),
        ("modules.json", [1, "path"], "elsewhere", "elsewhere/config.json is missing"),
        ("modules.json", [1, "path"], 3, "type and path of a module must be texts"),
        ("modules.json", [2, "kwargs"], ["task"], "has kwargs, which cannot be exported"),
        (BERT, ["max_seq_length"], 0, "max_seq_length is no whole number from 1"),
        (BERT, ["do_lower_case"], "yes", "do_lower_case is neither true nor false"),
        (BERT, ["transformer_task"], "fill-mask", "transformer_task is fill-mask; only feature-extraction"),
        (BERT, ["modality_config"], {"message": {}}, "only texts' last_hidden_state as token_embeddings"),
        (
            BERT,
            ["config_args"],
            {"hidden_act": "relu"},
            "config_args sets hidden_act, which cannot",
        ),
        (BERT, ["processing_kwargs"], {"text": {}}, "processing_kwargs sets text, which cannot be exported"),
        (
            BERT,
            ["tokenizer_name_or_path"],
            "other",
            "tokenizer_name_or_path cannot be exported",
        ),
        (POOLING, ["pooling_mode"], "median", "pooling_mode median is unknown; known are cls, max, mean"),
        (POOLING, ["pooling_mode"], [{}], "pooling_mode {} is unknown"),
        (POOLING, ["pooling_mode"], [], "a sentence head has 1 to 6 poolings"),
        (POOLING, ["pooling_mode_pooler"], True, "pooling_mode_pooler is unknown and cannot be exported"),
        (
            DENSE_CONFIG,
            ["activation_function"],
            "os.system",
            "activation_function os.system cannot be",
        ),
        (
            DENSE_CONFIG,
            ["activation_function"],
            "torch.nn.RReLU",
            "known are torch.nn's Identity, Tanh",
        ),
        (DENSE_CONFIG, ["use_residual"], True, "a Dense with use_residual cannot be exported"),
        (DENSE_CONFIG, ["module_input_name"], "token_embeddings", "only sentence_embedding can be exported"),
        (DENSE_CONFIG, ["in_features"], None, "in_features and out_features are missing"),
        (
            SETTINGS,
            ["model_type"],
            "SparseEncoder",
            "model_type is SparseEncoder; only Sentence",
        ),
        (
            SETTINGS,
            ["default_prompt_name"],
            "ask",
            "is ask, none of the prompts query, document",
        ),
        (SETTINGS, ["prompts"], {"a": 3}, "prompts is not an object of names and texts"),
        (SETTINGS, ["prompts"], {"a": "\ud800"}, "prompts hold a lone surrogate"),
    ],
)
def test_what_is_refused(folder, file, keys, value, message):
    edit(folder / file, keys, value)
    with pytest.raises(AlbertError) as caught:
        read_sentence_folder(folder)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("text", ["{", "{}", '["a"]', "[" * 100_000])
def test_damaged_modules(folder, text):
    write(folder / "modules.json", text)
    with pytest.raises(AlbertError, match=r"modules\.json"):
        read_sentence_folder(folder)


def test_a_dense_without_weights(folder):
    (folder / "2_Dense/model.safetensors").unlink()
    with pytest.raises(AlbertError, match=r"2_Dense holds none of model\.safetensors, pytorch_model\.bin"):
        read_sentence_folder(folder)


@pytest.mark.parametrize(
    ("before", "types"),
    [
        (None, ["Lowercase"]),
        ({"type": "NFC"}, ["Lowercase", "NFC"]),
        ({"type": "Sequence", "normalizers": [{"type": "NFC"}]}, ["Lowercase", "NFC"]),
        ({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}, ["NFC", "Lowercase"]),
    ],
)
def test_lower_casing_comes_first(before, types):
    content = json.loads(lowercased(json.dumps({"normalizer": before, "model": {}}).encode()))
    assert [step["type"] for step in content["normalizer"]["normalizers"]] == types
    alone = json.dumps({"normalizer": {"type": "Lowercase"}}).encode()
    assert lowercased(alone) == alone
