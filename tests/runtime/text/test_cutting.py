"""Long texts are cut only where their tokens stay the same, and no more of them is tokenized than matters."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from albert_runtime import InputError
from albert_runtime.text import cutting
from albert_runtime.text import tokenizer as text_tokenizer
from albert_runtime.text.cutting import Cutter
from albert_runtime.text.tokenizer import TextEncoder

OURS = Path(__file__).parents[3] / "models" / "python-albert" / "tokenizer.json"
WORDS = [
    "word",
    "Anna",
    "b",
    "中文",
    "中",
    "да",
    "\u0e33",
    "e\u0301",
    "7",
    "(x)",
    "[MASK]",
    "\U0001f600",
    "ﷺ",
]
GAPS = [" ", "  ", "\n", "\t \r\n", "", ", ", "\u3000", " \u0301"]
TEXTS = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(GAPS)), max_size=60)


def bert(**options):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "中", "文", "b", "##ord", "w", "anna", "7"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(**options)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def unigram(pre_tokenizer, normalizer=None):
    pieces = ["<unk>", *("\u2581" + word for word in ("", "word", "anna", "b", "7")), *"wordanb7"]
    tokenizer = Tokenizer(models.Unigram([(piece, -len(piece)) for piece in dict.fromkeys(pieces)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    return tokenizer


def byte_level():
    tokenizer = Tokenizer(
        models.BPE({char: i for i, char in enumerate(pre_tokenizers.ByteLevel.alphabet())}, [])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


def spaces_to_one():
    return normalizers.Sequence([normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()])


MADE = {
    "bert": bert,
    "bert without Chinese": lambda: bert(handle_chinese_chars=False),
    "byte level": byte_level,
    "always": lambda: unigram(pre_tokenizers.Metaspace(), normalizers.NFKC()),
    "first": lambda: unigram(pre_tokenizers.Metaspace(prepend_scheme="first")),
    "never": lambda: unigram(pre_tokenizers.Metaspace(prepend_scheme="never")),
    "stripped": lambda: unigram(pre_tokenizers.Metaspace(), spaces_to_one()),
}
NOT_CUT = {
    # What is stripped of a text's ends is there in the middle.
    "stripped, never": lambda: unigram(pre_tokenizers.Metaspace(prepend_scheme="never"), spaces_to_one()),
    "prefix": lambda: unigram(
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit()]), normalizers.Prepend("\u2581")
    ),
    "in one": lambda: unigram(pre_tokenizers.Metaspace(split=False)),
    "nothing splits": lambda: unigram(pre_tokenizers.Digits()),
    "words replaced": lambda: unigram(pre_tokenizers.Metaspace(), normalizers.Replace("b word", "x")),
}


def tokenizer_of(name, request):
    if name in MADE:
        return MADE[name]()
    path = OURS if name == "ours" else request.getfixturevalue(name)
    return Tokenizer.from_file(str(path))


def ids(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


@pytest.fixture
def every_place(monkeypatch):
    """Texts are cut at every place where they can be."""
    monkeypatch.setattr(cutting, "SHORT", 1)


@pytest.mark.parametrize("name", [*MADE, "ours", "piece_tokenizer", "marked_tokenizer"])
def test_the_tokens_of_a_text_are_those_of_its_pieces(request, every_place, name):
    tokenizer = tokenizer_of(name, request)
    cutter = Cutter(tokenizer)
    most = 0

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(TEXTS)
    def check(pairs):
        nonlocal most
        text = "".join(word + gap for word, gap in pairs)
        pieces = [text[start:stop] for start, stop in cutter._pieces(text)]
        assert "".join(pieces) == text
        assert [token for piece in pieces for token in ids(tokenizer, piece)] == ids(tokenizer, text)
        most = max(most, len(pieces))

    check()
    assert most > 5


@pytest.mark.parametrize("name", NOT_CUT)
def test_texts_of_other_tokenizers_are_not_cut(every_place, name):
    assert list(Cutter(NOT_CUT[name]())._pieces("anna b word 7 b")) == [(0, 15)]


def test_added_tokens_that_take_spaces_along_or_hold_them(every_place):
    for token in (AddedToken("anna", lstrip=True), AddedToken("b word")):
        tokenizer = MADE["always"]()
        tokenizer.add_tokens([token])
        assert list(Cutter(tokenizer)._pieces("7 anna b word")) == [(0, 13)]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["piece_tokenizer", "marked_tokenizer", "ours"])
def test_what_is_kept_of_a_long_text_is_the_librarys(request, tmp_path, monkeypatch, side, name):
    """Ids, types and spans of texts and pairs, whichever text is longer, with odd and even room."""
    monkeypatch.setattr(cutting, "SHORT", 40)
    monkeypatch.setattr(text_tokenizer, "SHORT", 40)
    tokenizer = tokenizer_of(name, request)
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(8, direction=side)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    long = "Anna Smith lives in Paris, who? 7 a\nb " * 16
    texts = [
        long,
        *((long, long[:count]) for count in (3, 40, 150, 300)),
        *((long[:count], long[3:]) for count in (3, 40, 150, 300)),
        (long, long),
        (long + "b", long),
        (long, long + "b"),
    ]
    for length in (20, 21):
        encoder = TextEncoder((tmp_path / "tokenizer.json").read_bytes(), length)
        tokenizer.enable_truncation(length, direction=side)
        for text, row in zip(texts, encoder.encode(texts, True), strict=True):
            whole = tokenizer.encode(*([text] if isinstance(text, str) else text))
            assert (row.ids, row.types, row.parts) == (whole.ids, whole.type_ids, whole.sequence_ids)
            assert encoder([text], True) == ([whole.ids], [whole.type_ids])
            parts = (text,) if isinstance(text, str) else text
            for (start, stop), offsets, part in zip(row.spans, whole.offsets, row.parts, strict=True):
                if part is not None:
                    assert parts[part][start:stop] == parts[part][slice(*offsets)].strip()
                    assert offsets[0] <= start and stop <= offsets[1]


class Counting:
    """A tokenizer that notes how many characters it was given."""

    def __init__(self, tokenizer):
        self._tokenizer, self.characters = tokenizer, 0

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def _note(self, texts):
        self.characters += sum(len("".join(text)) for text in texts)

    def encode_batch_fast(self, texts, **options):
        self._note(texts)
        return self._tokenizer.encode_batch_fast(texts, **options)

    def encode_batch(self, texts, **options):
        self._note(texts)
        return self._tokenizer.encode_batch(texts, **options)


@pytest.fixture
def counting(piece_tokenizer, monkeypatch):
    """(an encoder of 64 positions, its tokenizers by whether they truncate)."""
    encoder = TextEncoder(piece_tokenizer.read_bytes(), 64, positions=64)
    made = {truncate: Counting(encoder._load(truncate)) for truncate in (False, True)}
    encoder._tokenizers.update(made)
    return encoder, made


@pytest.mark.parametrize("truncate", [True, False])
def test_only_what_matters_is_tokenized(counting, truncate):
    encoder, tokenizers = counting
    text = "who lives " * 400_000
    for work in (encoder.encode, encoder):
        if truncate:
            work([text], True)
        else:
            with pytest.raises(InputError, match=r"row 0 is at least [0-9]+ tokens long, .* is 64"):
                work([text], False)
    assert encoder.count([text], 1000)[0] >= 1000
    assert sum(tokenizer.characters for tokenizer in tokenizers.values()) < 40_000


def test_a_pair_of_long_texts_is_not_measured_to_its_end(counting):
    encoder, tokenizers = counting
    (row,) = encoder.encode([("who lives " * 400_000, "who lives " * 300_000)], True)
    assert (row.parts.count(0), row.parts.count(1)) == (30, 31)
    assert sum(tokenizer.characters for tokenizer in tokenizers.values()) < 3_000_000


def test_a_long_text_of_few_tokens_is_taken(counting):
    """However many characters they have: a word that is unknown as a whole, spaces, accents."""
    encoder, _ = counting
    text = "who" + " " * 300_000 + "lives" + "\u0301" * 300_000
    (row,) = encoder.encode([text], False)
    assert [text[start:stop] for start, stop in row.spans[1:-1]] == ["who", "lives"]
    assert encoder.count([text], 50) == [2]


def test_what_cannot_be_cut_has_a_limit(counting):
    encoder, tokenizers = counting
    for truncate in (True, False):
        with pytest.raises(
            InputError, match=r"row 3 has 2000000 characters in a row .* 1048576 .*: shorten it"
        ):
            encoder.encode(["a", "b", "a", "a" * 2_000_000], truncate)
    assert sum(tokenizer.characters for tokenizer in tokenizers.values()) == 0


def test_counts_of_long_texts(counting):
    encoder, _ = counting
    for text in ("who lives in Paris? " * 2000, "who\nlives\n" * 3000, "a b"):
        (exact,) = encoder.count([text])
        assert encoder.count([text], exact + 1) == [exact]
        assert encoder.count([text], 3)[0] >= min(3, exact)


def test_a_pair_of_long_texts_names_its_row_and_choice(make_task):
    from albert_runtime import Predictor

    predictor = Predictor(make_task("multiple-choice"), backend="native")
    with pytest.raises(InputError, match=r"row 0, choice 1 is at least [0-9]+ tokens long"):
        predictor.choose("who", ["a", "who lives " * 4000])


def test_the_samples_see_unknown_words(tmp_path):
    """A vocabulary without any of their letters shows no less."""
    tokenizer = unigram(pre_tokenizers.Metaspace(prepend_scheme="never"), spaces_to_one())
    content = json.loads(tokenizer.to_str())
    content["model"]["vocab"] = [["<unk>", 0.0], ["\u2581", -1.0], ["q", -1.0]]
    assert Cutter(Tokenizer.from_str(json.dumps(content)))._places is None
