"""Masks filled by what a model scores best, in the text as it was given."""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders

from albert_runtime import InputError

from ..scripted import answer_one, setting


@pytest.fixture
def fill(piece_tokenizer):
    tokenizer = Tokenizer.from_file(str(piece_tokenizer))

    def fill(text, *ranked, **options):
        """Fill a text where mask number i has the pieces of ``ranked[i]``, the likeliest first."""

        def run(batch, outputs, positions):
            assert outputs == ("prediction_scores",)
            masks = [batch["input_ids"][0, column] for column in positions[0]]
            assert masks == [4] * len(ranked)
            scores = np.zeros((len(masks), 50), np.float32)
            for row, pieces in enumerate(ranked):
                for place, piece in enumerate(pieces):
                    scores[row, tokenizer.token_to_id(piece)] = 20 - 2 * place
            return {"prediction_scores": scores}

        return answer_one(setting(piece_tokenizer, "masked-lm", run), "fill_mask", text, **options)

    return fill


def test_one_mask(fill):
    answer = fill("Anna lives in [MASK].", ["▁paris", "▁a"], top_k=2)
    assert answer["text"] == "Anna lives in paris."
    (mask,) = answer["masks"]
    assert (mask["start"], mask["end"]) == (14, 20)
    assert [(item["token"], item["text"]) for item in mask["candidates"]] == [
        ("paris", "Anna lives in paris."),
        ("a", "Anna lives in a."),
    ]
    total = np.exp(20) + np.exp(18) + 48
    shares = [item["score"] for item in mask["candidates"]]
    np.testing.assert_allclose(shares, [np.exp(20) / total, np.exp(18) / total], rtol=1e-12)


def test_several_masks(fill):
    answer = fill("[MASK] lives [MASK] [MASK]", ["▁anna", "▁who"], ["▁in"], ["▁paris"], top_k=2)
    assert answer["text"] == "anna lives in paris"
    assert answer["masks"][0]["candidates"][1]["text"] == "who lives in paris"
    assert [mask["start"] for mask in answer["masks"]] == [0, 13, 20]


def test_a_piece_that_continues_a_word_joins_it(fill):
    assert fill("Ann [MASK] lives", ["a"])["text"] == "Anna lives"
    assert fill("Ann[MASK] lives", ["a"])["text"] == "Anna lives"
    assert fill("[MASK] lives", ["a"])["text"] == "a lives"


def test_a_piece_that_begins_a_word_stands_apart(fill):
    assert fill("Anna[MASK].", ["▁smith"])["text"] == "Anna smith."
    assert fill("([MASK])", ["▁smith"])["text"] == "(smith)"


def test_word_pieces(tmp_path):
    from tokenizers import AddedToken, models, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "巴", "黎", "go", "##ing"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens([AddedToken("[MASK]", normalized=False)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    def fill(text, token):
        def run(batch, outputs, positions):
            return {"prediction_scores": np.eye(1, 9, token, dtype=np.float32) * 9}

        return answer_one(setting(tmp_path / "tokenizer.json", "masked-lm", run), "fill_mask", text)["text"]

    assert fill("巴[MASK]", 6) == "巴黎"
    assert fill("go [MASK] go", 8) == "going go"
    assert fill("go[MASK]", 7) == "go go"


def test_more_candidates_than_words(fill):
    assert len(fill("[MASK]", ["▁a"], top_k=10**6)["masks"][0]["candidates"]) == 50


def test_the_order_of_equal_scores_is_the_vocabularys(fill):
    candidates = fill("[MASK]", [], top_k=3)["masks"][0]["candidates"]
    assert [item["token"] for item in candidates] == ["<pad>", "<unk>", "[CLS]"]


@pytest.mark.parametrize("text", ["Anna", "[mask]", "<mask>", "[ MASK ]"])
def test_no_mask(fill, text):
    with pytest.raises(InputError, match=r"row 0 has no \[MASK\] to fill; write it where a word is wanted"):
        fill(text)


@pytest.mark.parametrize("top_k", [0, -1, 1.5, True, "3", None])
def test_bad_numbers_of_candidates(fill, top_k):
    with pytest.raises(InputError, match=r"top_k must be a whole number of at least 1"):
        fill("[MASK]", ["▁a"], top_k=top_k)


def test_a_tokenizer_without_mask(tmp_path, piece_tokenizer):
    path = tmp_path / "tokenizer.json"
    path.write_text(piece_tokenizer.read_text().replace("[MASK]", "[HIDE]"))
    with pytest.raises(InputError, match=r"tokenizer\.json has no mask token"):
        answer_one(setting(path, "masked-lm", None), "fill_mask", "[MASK]")


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("anna [MASK] in", "\u2581lives"),
        ("anna[MASK]in", "\u2581lives"),
        ("anna,[MASK] in", "\u2581lives"),
        ("who?[MASK]", "\u2581smith"),
        ("a.[MASK] in", "b"),
        ("ann[MASK] lives", "a"),
        ("anna [MASK]s", "\u2581who"),
        ("anna [MASK] lives", ","),
        ("anna lives in [MASK]", "."),
        ("[MASK] lives", "\u2581anna"),
    ],
)
def test_spaces_are_those_of_the_decoder(fill, marked_tokenizer, text, piece):
    """As transformers' pipeline: it decodes the row with the piece in place of the mask."""
    transformers = pytest.importorskip("transformers")
    tokenizer = Tokenizer.from_file(str(marked_tokenizer))
    tokenizer.decoder = decoders.Metaspace()
    oracle = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    ids = [tokenizer.token_to_id(piece) if token == 4 else token for token in oracle(text)["input_ids"]]
    assert fill(text, [piece])["text"] == oracle.decode(ids[1:-1])


def test_spaces_of_word_pieces_are_those_of_the_decoder(tmp_path):
    from tokenizers import AddedToken, models, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "go", "##ing", ",", ".", "?", "!"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.decoder = decoders.WordPiece(cleanup=True)
    tokenizer.add_special_tokens([AddedToken("[MASK]", normalized=False)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for text in ("go [MASK]", "go[MASK] go", "go,[MASK]", "[MASK] go", "go [MASK]go"):
        for token in range(5, len(words)):

            def run(batch, outputs, positions, token=token):
                return {"prediction_scores": np.eye(1, len(words), token, dtype=np.float32) * 9}

            filled = answer_one(setting(tmp_path / "tokenizer.json", "masked-lm", run), "fill_mask", text)
            ids = [token if one == 4 else one for one in tokenizer.encode(text).ids]
            expected = tokenizer.decode(ids[1:-1], skip_special_tokens=False)
            if text.startswith("[MASK]"):
                expected = expected.removeprefix("##")
            if words[token] in ",.?!" and text.endswith("]go"):
                continue  # the text after a sign keeps what it had
            assert filled["text"] == expected, (text, words[token])


def test_an_opening_sign_stays_beside_its_word(fill):
    """There the decoder would put a space that the text never had."""
    assert fill("in ([MASK])", ["\u2581smith"])["text"] == "in (smith)"
    assert fill('who "[MASK]" in', ["\u2581smith"])["text"] == 'who "smith" in'
    assert fill('"who"[MASK]', ["\u2581smith"])["text"] == '"who" smith'


@pytest.mark.parametrize(
    "targets",
    [["paris", "anna"], "paris", ["\u2581paris", "paris"], ["a", "b", "who", "in"], ["annas", "\u20ac"]],
)
@pytest.mark.parametrize("top_k", [1, 3])
def test_targets_are_the_pipelines(marked_tokenizer, targets, top_k):
    """As transformers' own: which tokens, in which order, with which probabilities."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    scores = np.random.default_rng(0).normal(0, 3, (1, 50)).astype(np.float32)
    oracle = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(marked_tokenizer), mask_token="[MASK]", unk_token="<unk>", pad_token="<pad>"
    )
    pipeline = transformers.FillMaskPipeline.__new__(transformers.FillMaskPipeline)
    pipeline.tokenizer, pipeline.framework = oracle, "pt"
    wanted = pipeline.get_target_ids(targets)
    ids = torch.tensor(oracle(["who [MASK] in"])["input_ids"])
    logits = torch.zeros(1, ids.shape[1], 50)
    logits[0, (ids[0] == 4).nonzero()] = torch.from_numpy(scores)
    expected = pipeline.postprocess({"input_ids": ids, "logits": logits}, top_k, np.unique(wanted))

    def run(batch, outputs, positions):
        return {"prediction_scores": scores}

    made = setting(marked_tokenizer, "masked-lm", run)
    answer = answer_one(made, "fill_mask", "who [MASK] in", targets=targets, top_k=top_k)
    found = [candidate["score"] for candidate in answer["masks"][0]["candidates"]]
    np.testing.assert_allclose(found, [one["score"] for one in expected], rtol=1e-5)
    words = [made.encoder.piece(one["token"])[0] for one in expected]
    assert [candidate["token"] for candidate in answer["masks"][0]["candidates"]] == words


def test_a_target_of_several_tokens_warns(fill, caplog):
    fill("[MASK]", [], targets=["annas"])
    assert "target 'annas' is 2 tokens long; its first one stands for it" in caplog.text


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([], "targets must be a string or strings, at least one"),
        (5, "targets must be a string or strings"),
        (["a", 1], "targets must be a string or strings"),
        (["a", " "], "target 1 is an empty text"),
        ("\ud800", "target 0 is no valid Unicode"),
    ],
)
def test_bad_targets(fill, targets, message):
    with pytest.raises(InputError, match=message):
        fill("[MASK]", [], targets=targets)
