"""Folders as they come, against what transformers' AutoTokenizer makes of the same folder."""

import json
import unicodedata
import warnings

import pytest
import tokenizers

from albert_export.errors import ExportError
from albert_export.tokenizer.build import MadeTokenizer, make_tokenizer
from albert_export.tokenizer.choices import Choices

from .test_build import TEXT, train

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its imports, which are not ours to mend
    transformers = pytest.importorskip("transformers", "4.40", reason="the oracle")
if int(transformers.__version__.split(".")[0]) >= 5:
    pytest.skip("transformers 5 has no slow tokenizers to compare with", allow_module_level=True)

SIZE = 90
CONFIG = {"model_type": "albert", "vocab_size": SIZE}
VOCAB = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]", "hello", "nba", "\u6211", "Hello"),
    *(
        "cafe",
        "caf\u00e9",
        "uber",
        "\u00fcber",
        "\u00dcber",
        "covid",
        "##19",
        "19",
        "\u1112",
        "##\u1161",
        "##\u11ab",
    ),
    *("\ud55c", "##\uad6d", "\u092e", "##\u0947", "##\u0902", "\u092e\u0947\u0902", "<", "e1", ">", "NBA"),
)
CHINESE_TEXTS = (
    "Hello NBA \u6211",
    "\u00dcber \ud55c\uad6d \u092e\u0947\u0902 caf\u00e9 Cafe\u0301",
    "[unused1] hello [MASK]<e1>covid19",
)
ENGLISH_TEXTS = (
    "the cat <e1> <e2> sat",
    " <e1> the <e2>",
    "The<e1>CAT [MASK] the dog<e2>",
    "a [MASK] <e1>. [CLS] sat",
    "c\u00e0t \u0926\u093f\u0932\u094d\u0932\u0940",
)


@pytest.fixture(scope="module")
def spiece() -> bytes:
    return train(model_type="unigram", required_chars="<pad>\u0926\u093f\u0932\u094d\u0940\u00e0")


@pytest.fixture(scope="module")
def bare() -> bytes:
    """Without pieces for special tokens; 0 is <unk>."""
    settings = {"pad_id": -1, "unk_id": 0, "control_symbols": []}
    return train(TEXT, model_type="unigram", required_chars="<pad>", **settings)


@pytest.fixture
def folder(tmp_path):
    def folder(vocabulary, **files):
        if isinstance(vocabulary, bytes):
            (tmp_path / "spiece.model").write_bytes(vocabulary)
        elif vocabulary:
            (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
        for name, values in {"config": CONFIG, **files}.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(values), encoding="utf-8")
        return tmp_path

    return folder


def make(folder, **choices) -> MadeTokenizer:
    made = make_tokenizer(folder, Choices(**{"hugging_face": True, **choices}))
    assert made is not None
    return made


def loaded(made: MadeTokenizer) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(made.json.decode())


def auto(folder, **options):
    return transformers.AutoTokenizer.from_pretrained(str(folder), **options)


def assert_same(made: MadeTokenizer, oracle, texts=CHINESE_TEXTS) -> None:
    ours = loaded(made)
    for text in texts:
        assert ours.encode(text).ids == oracle(text)["input_ids"], text
    pair, expected = ours.encode(texts[0], texts[1]), oracle(texts[0], texts[1])
    assert pair.ids == expected["input_ids"]
    assert pair.type_ids == expected.get("token_type_ids", [0] * len(pair))


# ---- Case and accents


@pytest.mark.parametrize("name", ["BertTokenizer", "BertTokenizerFast"])
@pytest.mark.parametrize("place", ["config", "tokenizer_config"])
def test_the_class_that_any_file_names(folder, name, place):
    values = {"tokenizer_class": name, **(CONFIG if place == "config" else {})}
    path = folder(VOCAB, **{place: values})
    made = make(path)
    assert_same(made, auto(path))
    assert loaded(made).encode("Hello NBA \u6211").tokens[1:-1] == ["hello", "nba", "\u6211"]
    rule = f"vocab.txt, folds case (the rule of BertTokenizer, named in {place}.json), strips accents"
    assert made.origin == rule
    # The class is in the file; whose the weights are does not matter.
    assert make(path, hugging_face=False).json == made.json


def test_without_a_class_the_weights_decide(folder):
    path = folder(VOCAB)
    made = make(path)
    assert_same(made, transformers.BertTokenizer.from_pretrained(str(path)))
    assert "BertTokenizer's rule: no file names a class, and the weights are Hugging Face's" in made.origin
    paddle = make(path, hugging_face=False)
    assert loaded(paddle).encode("Hello NBA nba").tokens[1:-1] == ["Hello", "NBA", "nba"]
    assert (
        "keeps case (PaddleNLP's rule: no file names a class, and the weights are PaddleNLP's)"
        in paddle.origin
    )


@pytest.mark.parametrize("strip", [True, False, None])
@pytest.mark.parametrize("lower", [True, False, None])
def test_strip_accents(folder, strip, lower):
    options = {"strip_accents": strip, "do_lower_case": lower}
    options = {name: value for name, value in options.items() if value is not None}
    path = folder(VOCAB, tokenizer_config={"tokenizer_class": "BertTokenizer", **options})
    made = make(path)
    assert_same(made, auto(path))
    # The slow form composes a text first, the fast one and PaddleNLP's do not.
    composed = [unicodedata.normalize("NFC", text) for text in CHINESE_TEXTS]
    assert_same(made, auto(path, use_fast=False), composed)
    keeps = loaded(make(path, keep_accents=True))
    drops = loaded(make(path, keep_accents=False))
    assert keeps.encode("caf\u00e9").tokens[1:-1] == ["caf\u00e9"]
    assert drops.encode("caf\u00e9").tokens[1:-1] == ["cafe"]


def test_strip_accents_null_is_as_if_left_out(folder):
    values = {"tokenizer_class": "BertTokenizer", "strip_accents": None, "tokenize_chinese_chars": None}
    path = folder(VOCAB, tokenizer_config=values)
    expected = loaded(make(path)).encode(CHINESE_TEXTS[1]).ids
    del values["tokenize_chinese_chars"]  # transformers takes a null here for false, as if it had been meant
    assert expected == auto(folder(VOCAB, tokenizer_config=values))(CHINESE_TEXTS[1])["input_ids"]


@pytest.mark.parametrize("keep", [True, False])
def test_accents_of_the_english_tokenizer(folder, spiece, keep):
    path = folder(spiece, tokenizer_config={"keep_accents": keep})
    oracle = auto(path, use_fast=False)
    assert_same(make(path), oracle, ENGLISH_TEXTS)
    (path / "tokenizer_config.json").write_text(json.dumps({"keep_accents": not keep}))
    assert_same(make(path, keep_accents=keep), oracle, ENGLISH_TEXTS)
    assert make(path, keep_accents=keep).origin.endswith("keeps accents" if keep else "strips accents")


# ---- A tokenizer.json that the files beside it contradict


def saved(path, slow, **changes):
    """The tokenizer as transformers saves it, then its options changed by hand."""
    slow.save_pretrained(str(path))
    file = path / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


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
def test_albert_options_do_not_but_transformers_5_follows_them(folder, spiece, changes):
    path = folder(spiece)
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


# ---- Special and added tokens


@pytest.mark.parametrize("form", ["nothing", "added_tokens", "decoder"])
def test_a_spiece_without_special_pieces(folder, bare, form):
    path = folder(bare)
    if form != "nothing":
        slow = auto(path, use_fast=False)
        if form == "decoder":
            slow.save_pretrained(str(path))
        else:
            first = slow.sp_model.get_piece_size()
            names = ["[MASK]", "[CLS]", "<pad>", "[SEP]"]
            ids = {name: first + place for place, name in enumerate(names)}
            path = folder(bare, added_tokens=ids)
    made = make(path)
    oracle = auto(path, use_fast=False)
    texts = [text for text in ENGLISH_TEXTS if "<e" not in text] + ["the cat [MASK] sat", "<pad> the"]
    assert_same(made, oracle, texts)
    ours = loaded(made)
    for token in ("[CLS]", "[SEP]", "[MASK]", "<pad>", "<unk>"):
        assert ours.token_to_id(token) == oracle.convert_tokens_to_ids(token)
    assert len(made.notes) == (4 if form == "nothing" else 0)


def test_special_tokens_that_the_model_has_no_rows_for(folder, bare):
    path = folder(bare)
    size = 33  # of the pieces alone
    with pytest.raises(ExportError, match=r"spiece\.model lacks the special tokens .*\[SEP\]"):
        make(path, vocab_size=size)
    with pytest.raises(ExportError, match=r"lacks the special tokens"):
        make(path, hugging_face=False)  # PaddleNLP adds none


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("gap", [0, 13])
def test_no_lone_space_mark_beside_added_tokens(folder, spiece, special, gap):
    path = folder(spiece)
    first = auto(path, use_fast=False).sp_model.get_piece_size() + gap
    files = {"added_tokens": {"<e1>": first, "<e2>": first + 1}}
    if special:
        files["special_tokens_map"] = {"additional_special_tokens": ["<e1>", "<e2>"]}
    path = folder(spiece, **files)
    made = make(path)
    # transformers' fast form gives such tokens other ids after a gap, and space marks of their own.
    assert_same(made, auto(path, use_fast=False), ENGLISH_TEXTS)
    assert loaded(made).encode("the <e1> <e2>").ids[-3:-1] == [first, first + 1]


def test_tokens_added_to_a_saved_slow_tokenizer(folder, spiece):
    path = folder(spiece)
    slow = auto(path, use_fast=False)
    slow.add_tokens(["<e1>", "dog"])
    slow.add_special_tokens({"additional_special_tokens": ["<e2>"]})
    slow.save_pretrained(str(path))
    assert_same(make(path), auto(path, use_fast=False), ENGLISH_TEXTS)


@pytest.mark.parametrize("form", ["tokenizer_config", "special_tokens_map"])
def test_special_tokens_of_the_vocabulary_stay_whole(folder, form):
    """[unused1] is a line of the vocabulary, <e1> follows it."""
    names = {"tokenizer_config": {"tokenizer_class": "BertTokenizer"}}
    names[form] = {**names.get(form, {}), "additional_special_tokens": ["[unused1]", "<e1>", "covid"]}
    path = folder(VOCAB, **names)
    made = make(path)
    assert_same(made, auto(path))
    assert loaded(made).encode("[unused1] <e1>").ids[1:-1] == [5, len(VOCAB)]


def test_a_named_token_without_room_is_text(folder):
    values = {"tokenizer_class": "BertTokenizer", "additional_special_tokens": ["<e1>"]}
    made = make(folder(VOCAB, tokenizer_config=values), vocab_size=len(VOCAB))
    assert loaded(made).encode("<e1>").tokens[1:-1] == ["<", "e1", ">"]
    assert made.notes == ("<e1> is named as a special token but has no id; it is read as text",)


def test_a_special_that_the_task_does_not_need_may_be_missing(folder):
    vocabulary = [token for token in VOCAB if token not in ("[MASK]", "[PAD]")]
    path = folder(vocabulary, tokenizer_config={"tokenizer_class": "BertTokenizer"})
    full = make(path, vocab_size=len(vocabulary))
    assert loaded(full).token_to_id("[MASK]") is None
    assert loaded(full).encode("hello").ids == auto(path)("hello")["input_ids"]
    with pytest.raises(ExportError, match=r"vocab\.txt lacks the special tokens \[MASK\]"):
        make(path, vocab_size=len(vocabulary), needs_mask=True)
    # A model with rows for them has transformers' ids.
    assert_same(make(path, needs_mask=True), auto(path))


def test_which_of_two_files_names_a_token(folder):
    """special_tokens_map.json wins over tokenizer_config.json, unless that has an added_tokens_decoder."""
    config = {"tokenizer_class": "BertTokenizer", "cls_token": "hello"}
    path = folder(VOCAB, tokenizer_config=config, special_tokens_map={"cls_token": "nba"})
    assert_same(make(path), auto(path))
    assert loaded(make(path)).encode("").tokens[0] == "nba"
    entry = {"content": "[PAD]", "special": True}
    path = folder(VOCAB, tokenizer_config={**config, "added_tokens_decoder": {"0": entry}})
    assert_same(make(path), auto(path))
    assert loaded(make(path)).encode("").tokens[0] == "hello"


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ({"hello": 50}, r"give 'hello' the id 50, which is not the 6 of vocab\.txt"),
        ({"<e1>": 6}, r"give '<e1>' the id 6, which is another token's"),
        ({"<e1>": -1}, "malformed"),
        ({"<e1>": SIZE}, rf"vocab\.txt has token ids up to {SIZE}"),
        ({"": 40}, "malformed"),
    ],
)
def test_ids_that_contradict_the_vocabulary(folder, tokens, message):
    with pytest.raises(ExportError, match=message):
        make(folder(VOCAB, added_tokens=tokens))


def test_two_equal_lines_leave_an_id_unused(folder):
    """The library counts tokens, not lines: an added token would get the id of the line before."""
    path = folder([*VOCAB, "hello"], added_tokens={"<e1>": len(VOCAB) + 1})
    assert loaded(make(path)).encode("<e1> hello").ids[1:-1] == [len(VOCAB) + 1, len(VOCAB)]


# ---- What else tokenizer_config.json can say


def test_a_tokenizer_that_leaves_token_types_out(folder, spiece):
    names = ["input_ids", "attention_mask"]
    path = folder(VOCAB, tokenizer_config={"tokenizer_class": "BertTokenizer", "model_input_names": names})
    assert_same(make(path), auto(path))
    assert not any(loaded(make(path)).encode("hello", "nba").type_ids)
    saved(path, auto(path))
    assert_same(make(path), auto(path))
    assert not any(loaded(make(path)).encode("hello", "nba").type_ids)


@pytest.mark.parametrize("file", [False, True])
def test_the_side_that_is_cut(folder, file):
    path = folder(VOCAB, tokenizer_config={"tokenizer_class": "BertTokenizer", "truncation_side": "left"})
    if file:
        saved(path, transformers.BertTokenizerFast.from_pretrained(str(path), truncation_side="left"))
    content = json.loads(make(path).json)
    assert content["truncation"]["direction"] == "Left"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, None),
        ({"model_max_length": 128}, 128),
        ({"model_max_length": 128.0}, 128),
        ({"max_len": 64}, 64),
        ({"model_max_length": None}, None),
        ({"model_max_length": 10**30}, 10**30),
    ],
)
def test_the_length_that_is_cut_to(folder, values, expected):
    path = folder(VOCAB, tokenizer_config={"tokenizer_class": "BertTokenizer", **values})
    assert make(path).max_length == expected
    if expected is not None:
        assert auto(path).model_max_length == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"tokenizer_class": "BertJapaneseTokenizer"},
            "names the tokenizer class BertJapaneseTokenizer, which",
        ),
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, r"put its tokenizer\.json there"),
        ({"tokenizer_class": 5}, "tokenizer_class is 5, not the name of a class"),
        ({"split_special_tokens": True}, "split_special_tokens true cannot be kept"),
        ({"truncation_side": "middle"}, "not left or right"),
        ({"model_max_length": 0}, "give a whole number of at least 1"),
        ({"model_max_length": "512"}, "give a whole number of at least 1"),
        ({"model_max_length": True}, "give a whole number of at least 1"),
        ({"model_input_names": "input_ids"}, "model_input_names is no list"),
        ({"strip_accents": 1}, "strip_accents is neither true nor false"),
        ({"additional_special_tokens": "[X]"}, "malformed"),
    ],
)
def test_what_cannot_be_kept_is_refused(folder, values, message):
    path = folder(VOCAB, tokenizer_config={"tokenizer_class": "BertTokenizer", **values})
    with pytest.raises(ExportError, match=message) as caught:
        make(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_class_that_reads_spiece_in_another_way_is_refused(folder, spiece):
    path = folder(spiece, tokenizer_config={"tokenizer_class": "T5Tokenizer"})
    with pytest.raises(ExportError, match=r"T5Tokenizer, which does not make its tokens from spiece\.model"):
        make(path)


def test_the_class_decides_between_two_vocabularies(folder, spiece):
    folder(spiece)
    path = folder(VOCAB, tokenizer_config={"tokenizer_class": "BertTokenizerFast"})
    assert_same(make(path), auto(path))
    path = folder(VOCAB, tokenizer_config={"tokenizer_class": "AlbertTokenizer"})
    assert_same(make(path), auto(path, use_fast=False), ENGLISH_TEXTS)


@pytest.mark.parametrize("values", [{"do_basic_tokenize": False}, {"never_split": ["NBA"]}])
def test_what_only_the_slow_form_reads_is_said(folder, values):
    path = folder(VOCAB, tokenizer_config={"tokenizer_class": "BertTokenizer", **values})
    made = make(path)
    assert_same(made, auto(path))
    (note,) = made.notes
    assert next(iter(values)) in note
