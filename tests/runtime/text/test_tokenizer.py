"""Texts and pairs through the artifact's tokenizer."""

import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from albert_runtime.batch.pack import pack
from albert_runtime.batch.packed import ModelLimits
from albert_runtime.errors import ArtifactError, BackendError, InputError
from albert_runtime.text.checks import row_names
from albert_runtime.text.tokenizer import TextEncoder

LIMITS = ModelLimits(vocab_size=50, type_vocab_size=2, max_position_embeddings=10)


@pytest.fixture
def encoder(tokenizer_file):
    return TextEncoder(tokenizer_file.read_bytes(), 10)


def ids_of(packed):
    starts = packed.row_starts.tolist()
    return [packed.input_ids[a:b].tolist() for a, b in pairwise(starts)]


def test_texts_get_their_special_tokens(encoder):
    packed = pack(["a b c", "a", "b zebra"], LIMITS, encoder=encoder)
    assert ids_of(packed) == [[2, 5, 6, 7, 3], [2, 5, 3], [2, 6, 1, 3]]
    assert packed.shape == (3, 5)
    assert not packed.token_type_ids.any()


def test_one_text_is_a_batch_of_one(encoder):
    assert ids_of(pack("a b", LIMITS, encoder=encoder)) == [[2, 5, 6, 3]]


@pytest.mark.parametrize("pair", [("a b", "c"), ["a b", "c"]])
def test_pairs_get_token_types(encoder, pair):
    packed = pack([pair, "a"], LIMITS, encoder=encoder)
    assert ids_of(packed) == [[2, 5, 6, 3, 7, 3], [2, 5, 3]]
    assert packed.token_type_ids.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 0]


def test_a_list_of_two_texts_is_no_pair(encoder):
    assert ids_of(pack(["a", "b"], LIMITS, encoder=encoder)) == [[2, 5, 3], [2, 6, 3]]


def test_too_long_is_an_error_unless_truncated(encoder):
    long = "a " * 20
    with pytest.raises(
        InputError, match=r"row 1 is 22 tokens long, max_position_embeddings is 10; .*set truncate"
    ):
        pack(["a", long], LIMITS, encoder=encoder)
    assert ids_of(pack(["a", long], LIMITS, encoder=encoder, truncate=True)) == [
        [2, 5, 3],
        [2, *[5] * 8, 3],
    ]
    packed = pack([(long, "b")], LIMITS, encoder=encoder, truncate=True)
    assert ids_of(packed) == [[2, *[5] * 6, 3, 6, 3]]
    assert packed.token_type_ids.tolist() == [0] * 8 + [1] * 2


def test_truncation_that_cannot_keep_the_special_tokens_is_an_error(tokenizer_file):
    with pytest.raises(InputError, match="row 0 is 5 tokens long, max_position_embeddings is 2"):
        pack(
            [("a", "b")],
            ModelLimits(50, 2, 2),
            encoder=TextEncoder(tokenizer_file.read_bytes(), 2),
            truncate=True,
        )


def test_modes_stored_in_the_file_do_not_apply(tokenizer_file, tmp_path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = TextEncoder((tmp_path / "tokenizer.json").read_bytes(), 10)
    assert encoder(["a b c", "a"], False)[0] == [[2, 5, 6, 7, 3], [2, 5, 3]]


def test_unknown_longest_sequence(tokenizer_file):
    encoder = TextEncoder(tokenizer_file.read_bytes(), None)
    assert len(encoder(["a " * 600], True)[0][0]) == 602


def test_threads_may_mix_both_modes(encoder):
    long = "a " * 20

    def lengths(truncate):
        return {len(encoder([long], truncate)[0][0]) for _ in range(50)}

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lengths, [True, False] * 8))
    assert results == [{10}, {22}] * 8


def test_broken_unicode_names_the_row(encoder):
    with pytest.raises(InputError, match=r"row 1 is no valid Unicode .surrogates not allowed"):
        pack(["a", ("b", "\ud800")], LIMITS, encoder=encoder)


def test_ids_beyond_the_models_vocabulary(encoder):
    with pytest.raises(InputError, match="row 0, column 1: input_ids holds 5, allowed are 0 to 3"):
        pack(["a"], ModelLimits(4, 2, 10), encoder=encoder)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff"])
def test_a_damaged_file(content):
    with pytest.raises(
        ArtifactError, match=r"x\.tokenizer\.json is no tokenizer .*; restore it or export again"
    ):
        TextEncoder(content, 10, file="x.tokenizer.json")(["a"], False)


def test_without_the_package(encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(BackendError, match=r"pip install 'albert-runtime.text.', or pass token ids"):
        encoder(["a"], False)


def test_what_tokens_stand_for(piece_tokenizer):
    encoder = TextEncoder(piece_tokenizer.read_bytes(), 16)
    text = "  Ann\u00e0  lives in"
    (row,) = encoder.encode([text], False)
    assert [text[start:end] for start, end in row.spans] == ["", "Ann\u00e0", "lives", "in", ""]
    assert row.words == [None, 0, 1, 2, None]
    assert row.parts == [None, 0, 0, 0, None]
    (row,) = encoder.encode([("who", "in Paris")], False)
    assert row.parts == [None, 0, None, 1, 1, None]
    assert row.spans[3:5] == [(0, 2), (3, 8)]
    assert (row.ids, row.types) == tuple(part[0] for part in encoder([("who", "in Paris")], False))


def test_pairs_are_cut_by_their_strategy(piece_tokenizer):
    pair = ("a " * 9, "b " * 9)
    parts = TextEncoder(piece_tokenizer.read_bytes(), 11).encode([pair], True)[0].parts
    assert (parts.count(0), parts.count(1)) == (4, 4)
    encoder = TextEncoder(piece_tokenizer.read_bytes(), 15, keep_first=True)
    parts = encoder.encode([pair], True)[0].parts
    assert (parts.count(0), parts.count(1)) == (9, 3)
    for text in ("a " * 30, ("a " * 30, "b")):
        with pytest.raises(InputError, match="row 5 cannot be tokenized"):
            encoder.encode(["a", text], True, row_names(4))
        with pytest.raises(InputError, match="row 1 cannot be tokenized"):
            encoder(["a", text], True)


def test_masks_and_pieces(piece_tokenizer, tokenizer_file):
    encoder = TextEncoder(piece_tokenizer.read_bytes(), 16)
    assert encoder.mask() == (4, "[MASK]")
    ids = encoder.encode(["Anna x"], False)[0].ids
    assert [encoder.piece(token) for token in ids[1:-1]] == [("anna", False), ("", False), ("x", True)]
    assert TextEncoder(tokenizer_file.read_bytes(), 16).piece(5) == ("a", False)
    assert encoder.piece(10**6) == ("", True)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_side_that_is_cut_is_the_files(piece_tokenizer, tmp_path, side):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(piece_tokenizer))
    tokenizer.enable_truncation(512, direction=side)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = TextEncoder((tmp_path / "tokenizer.json").read_bytes(), 5)
    (row,) = encoder.encode(["Anna Smith lives in Paris"], True)
    kept = ["lives", "in", "Paris"] if side == "left" else ["Anna", "Smith", "lives"]
    assert ["Anna Smith lives in Paris"[start:end] for start, end in row.spans[1:-1]] == kept
    # transformers' own answer for the same file.
    transformers = pytest.importorskip("transformers")
    oracle = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    assert oracle.truncation_side == side
    assert row.ids == oracle("Anna Smith lives in Paris", truncation=True, max_length=5)["input_ids"]
    assert len(encoder.encode(["Anna Smith lives in Paris"], False)[0].ids) == 7


def test_pieces_where_no_piece_is_a_mere_space_mark(tmp_path):
    from tokenizers import Tokenizer, models

    pieces = [("<unk>", 0.0), ("\u2581cat", -1.0), ("s", -1.0)]
    Tokenizer(models.Unigram(pieces, unk_id=0)).save(str(tmp_path / "tokenizer.json"))
    encoder = TextEncoder((tmp_path / "tokenizer.json").read_bytes(), 5)
    assert [encoder.piece(1), encoder.piece(2)] == [("cat", False), ("s", True)]
