"""A tokenizer.json that lies in the folder, against transformers' AutoTokenizer."""

import json

import pytest

from albert_export.errors import ExportError

from .folders import (
    CONFIG,
    ENGLISH_TEXTS,
    VOCAB,
    assert_same,
    auto,
    loaded,
    make,
    saved,
    transformers,
)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"do_lower_case": False},
        {"strip_accents": False},
        {"strip_accents": False, "tokenize_chinese_chars": False},
    ],
)
def test_bert_options_win_over_tokenizer_json(folder, changes):
    path = folder(VOCAB)
    saved(path, transformers.BertTokenizerFast.from_pretrained(str(path)), **changes)
    made = make(path)
    assert_same(made, auto(path))
    assert (made.json == (path / "tokenizer.json").read_bytes()) is (not changes)
    assert all(any(f"{name} is " in note for note in made.notes) for name in changes)


def test_a_class_in_config_json_makes_its_defaults_win(folder):
    """tokenizer.json keeps case and no file says so: BertTokenizerFast folds."""
    path = folder(VOCAB)
    transformers.BertTokenizerFast.from_pretrained(str(path), do_lower_case=False).save_pretrained(str(path))
    for name in ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        (path / name).unlink()
    path = folder(None, config={**CONFIG, "tokenizer_class": "BertTokenizer"})
    made = make(path)
    assert_same(made, auto(path))
    assert "Hello" not in loaded(made).encode("Hello").tokens


@pytest.mark.parametrize("changes", [{"do_lower_case": False}, {"keep_accents": True}, {}])
def test_albert_options_do_not_but_transformers_5_follows_them(folder, albert_spiece, changes):
    path = folder(albert_spiece)
    saved(path, transformers.AlbertTokenizerFast.from_pretrained(str(path)), **changes)
    made = make(path)
    assert made.json == (path / "tokenizer.json").read_bytes()
    assert_same(made, auto(path), ENGLISH_TEXTS)
    told = [note for note in made.notes if "transformers 5 follows tokenizer_config.json" in note]
    assert len(told) == bool(changes)


def test_a_token_that_only_the_config_knows_is_added_to_tokenizer_json(folder):
    path = folder(VOCAB)
    saved(path, transformers.BertTokenizerFast.from_pretrained(str(path)))
    file = path / "tokenizer_config.json"
    values = json.loads(file.read_text())
    entry = {**values["added_tokens_decoder"]["0"], "content": "<e1>"}
    values["added_tokens_decoder"][str(len(VOCAB))] = entry
    file.write_text(json.dumps(values))
    made = make(path)
    assert_same(made, auto(path))
    assert len(VOCAB) in loaded(made).encode("hello <e1>").ids
    values["added_tokens_decoder"] = {str(len(VOCAB) + 3): entry}
    file.write_text(json.dumps(values))
    with pytest.raises(ExportError, match=r"tokenizer\.json lacks '<e1>', which .* does not follow its own"):
        make(path)


# ---- Choices


@pytest.mark.parametrize("keep", [True, False, None])
@pytest.mark.parametrize("lower", [True, False, None])
@pytest.mark.parametrize("start", [{}, {"do_lower_case": False, "keep_accents": True}])
def test_options_change_the_normalizer_of_a_tokenizer_json(folder, albert_spiece, start, lower, keep):
    path = folder(albert_spiece)
    cls = transformers.AlbertTokenizerFast
    cls.from_pretrained(str(path), **start).save_pretrained(str(path))
    asked = {"do_lower_case": lower, "keep_accents": keep}
    asked = {**start, **{name: value for name, value in asked.items() if value is not None}}
    oracle = cls.from_pretrained(str(path), from_slow=True, **asked)
    (path / "spiece.model").unlink()
    made = make(path, lowercase=lower, keep_accents=keep)
    texts = [text for text in ENGLISH_TEXTS if "<e" not in text] + ["THE c\u00e0t C\u00c0T"]
    assert_same(made, oracle, texts)


def test_options_change_a_bert_normalizer(folder):
    path = folder(VOCAB)
    transformers.BertTokenizerFast.from_pretrained(str(path)).save_pretrained(str(path))
    oracle = transformers.BertTokenizerFast.from_pretrained(str(path), strip_accents=False)
    (path / "vocab.txt").unlink()
    assert_same(make(path, keep_accents=True), oracle)


def test_a_normalizer_that_cannot_be_changed_is_refused(folder, albert_spiece):
    path = folder(albert_spiece)
    transformers.AlbertTokenizerFast.from_pretrained(str(path)).save_pretrained(str(path))
    (path / "spiece.model").unlink()
    content = json.loads((path / "tokenizer.json").read_text())
    content["normalizer"]["normalizers"].append(
        {"type": "Replace", "pattern": {"String": "A"}, "content": "b"}
    )
    (path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ExportError, match=r"tokenizer\.json settles case and accents in a way of its own"):
        make(path, lowercase=False)


# ---- What transformers 5 writes, which version 4 cannot read for an AlbertTokenizer


def version_5(path, **changes):
    """The folder as transformers 5.24 saves it: a tokenizer.json alone, and a backend in the config."""
    if (path / "spiece.model").is_file():
        transformers.AlbertTokenizerFast.from_pretrained(str(path)).save_pretrained(str(path))
        for name in ("spiece.model", "special_tokens_map.json"):
            (path / name).unlink()
    values = {
        "backend": "tokenizers",
        **{"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]", "pad_token": "<pad>"},
        "do_lower_case": True,
        "extra_special_tokens": ["<pad>", "[CLS]", "[SEP]", "[MASK]"],
        "keep_accents": False,
        "model_max_length": 10**30,
        "tokenizer_class": "AlbertTokenizer",
        "unk_id": 1,
        "unk_token": "<unk>",
        **changes,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(values))


@pytest.mark.parametrize("changes", [{}, {"do_lower_case": False}, {"keep_accents": True}])
def test_options_win_in_what_transformers_5_wrote(folder, albert_spiece, changes):
    path = folder(albert_spiece)
    # Version 5 makes its tokenizer anew with these options, as from_slow does in version 4.
    oracle = transformers.AlbertTokenizerFast.from_pretrained(str(path), **changes)
    version_5(path, **changes)
    made = make(path)
    for text in ("the CAT sat", "c\u00e0t C\u00c0T", "a [MASK] sat"):
        assert loaded(made).encode(text).ids == oracle(text)["input_ids"]
    assert not [note for note in made.notes if "transformers 4 follows" in note]
    # And it gives no token types, unless told to: measured with transformers 5.24.
    assert not any(loaded(made).encode("the cat", "sat").type_ids)
    assert any("both texts of a pair have token type 0" in note for note in made.notes)
    version_5(path, model_input_names=["input_ids", "token_type_ids", "attention_mask"], **changes)
    assert any(loaded(make(path)).encode("the cat", "sat").type_ids)
