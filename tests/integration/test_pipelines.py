"""Labels, vectors, words and entities against those of transformers' pipelines, on the same checkpoints.

Where the two differ on purpose the test says why, and compares what is left to compare.
"""

from itertools import pairwise

import numpy as np
import pytest

from .checkpoints import odd_texts, plain_texts

# Of probabilities and of vectors' elements: both sides compute in float32.
TOLERANCE = 2e-5
TEXTS = plain_texts(40) + odd_texts(40)
LONG = " ".join(plain_texts(30))
BIO = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def labels(names):
    return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}


@pytest.fixture(scope="module")
def classifier(both):
    return both("AlbertForSequenceClassification", **labels(("bad", "good", "odd")))


def same_classes(ours, theirs):
    assert list(ours["probabilities"]) == [row["label"] for row in theirs]
    assert (ours["label"], ours["score"]) == next(iter(ours["probabilities"].items()))
    scores = [row["score"] for row in theirs]
    np.testing.assert_allclose([*ours["probabilities"].values()], scores, rtol=0, atol=TOLERANCE)


def test_classify(classifier):
    pipe = classifier.pipeline("text-classification", top_k=None)
    found = classifier.ours.classify(TEXTS, top_k=3)
    for answer, expected in zip(found, pipe(TEXTS), strict=True):
        same_classes(answer, expected)
    assert {answer["label"] for answer in found} == {"bad", "good", "odd"}


def test_classify_pairs_and_long_texts(classifier):
    pipe = classifier.pipeline("text-classification", top_k=None)
    for text, pair in pairwise(TEXTS):
        expected = pipe({"text": text, "text_pair": pair}, truncation=True)
        same_classes(classifier.ours.classify([(text, pair)], top_k=3, truncate=True)[0], expected)
    # Both cut to the model's positions; transformers has its limit from the tokenizer.
    answer = classifier.ours.classify(LONG, top_k=3, truncate=True)
    same_classes(answer, pipe([LONG], truncation=True)[0])


def test_regression(both):
    made = both("AlbertForSequenceClassification", num_labels=1, problem_type="regression")
    expected = made.pipeline("text-classification")(TEXTS)
    found = made.ours.classify(TEXTS)
    for answer, row in zip(found, expected, strict=True):
        assert answer == {"label": row["label"], "score": pytest.approx(row["score"], abs=TOLERANCE)}
    # Whoever did not name the problem gets a sigmoid there and, as from models of regression, the logit here.
    made.model.config.problem_type = None
    sigmoids = made.pipeline("text-classification")(TEXTS)
    logits = np.array([answer["score"] for answer in found])
    scores = [row["score"] for row in sigmoids]
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), scores, rtol=0, atol=TOLERANCE)


def test_regression_of_several_columns(both):
    made = both("AlbertForSequenceClassification", **labels(("x", "y", "z")), problem_type="regression")
    expected = made.pipeline("text-classification", top_k=None)(TEXTS)
    for answer, rows in zip(made.ours.classify(TEXTS), expected, strict=True):
        assert list(answer["probabilities"]) == [row["label"] for row in rows]
        scores = [row["score"] for row in rows]  # logits of up to 6, both computed in float32
        np.testing.assert_allclose([*answer["probabilities"].values()], scores, rtol=0, atol=5 * TOLERANCE)


@pytest.mark.parametrize("name", ["linear.Identity", "activation.Sigmoid"])
def test_the_activation_of_a_cross_encoder(both, name):
    """sentence-transformers' CrossEncoder applies what it keeps in the config; so does a pipeline told to."""
    kept = {"activation_fn": f"torch.nn.modules.{name}", "version": "5.1.0"}
    made = both("AlbertForSequenceClassification", num_labels=1, sentence_transformers=kept)
    function = "sigmoid" if "Sigmoid" in name else "none"
    expected = made.pipeline("text-classification", function_to_apply=function)(TEXTS)
    scores = [answer["score"] for answer in made.ours.classify(TEXTS)]
    np.testing.assert_allclose(scores, [row["score"] for row in expected], rtol=0, atol=TOLERANCE)


def test_several_labels_at_a_time(both):
    config = labels(("bad", "good", "odd")) | {"problem_type": "multi_label_classification"}
    made = both("AlbertForSequenceClassification", **config)
    expected = made.pipeline("text-classification", top_k=None)(TEXTS)
    found = made.ours.classify(TEXTS)
    for answer, rows in zip(found, expected, strict=True):
        same_classes(answer, rows)
    sums = [sum(answer["probabilities"].values()) for answer in found]
    assert max(sums) > 1.1 or min(sums) < 0.9  # no softmax
    assert list(made.ours.classify(TEXTS[0], top_k=1)["probabilities"]) == [found[0]["label"]]


def test_embed(both):
    made = both("AlbertModel")
    expected = [np.array(rows[0]) for rows in made.pipeline("feature-extraction")(TEXTS)]
    for pooling, pool in (("cls", lambda rows: rows[0]), ("mean", lambda rows: rows.mean(axis=0))):
        found = made.ours.embed(TEXTS, pooling=pooling, normalize=False)
        wanted = np.array([pool(rows) for rows in expected])
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE)
        assert wanted.std(axis=0).min() > 0.01


def with_masks(texts, count):
    masked = []
    for index, text in enumerate(texts):
        words = text.split()
        if len(words) > count:
            for step in range(count):
                words[(index + step * 2) % len(words)] = "[MASK]"
            masked.append(" ".join(words))
    return [text for text in masked if text.count("[MASK]") == count]


@pytest.mark.parametrize("tokenizer", ["pieces", "word pieces"])
@pytest.mark.parametrize("count", [1, 2])
def test_fill_mask(both, tokenizer, count):
    made = both("AlbertForMaskedLM", tokenizer)
    texts = with_masks(TEXTS, count)
    assert len(texts) > 40
    seen = set()
    pipe = made.pipeline("fill-mask", top_k=7)
    for text, answer in zip(texts, made.ours.fill_mask(texts, top_k=7), strict=True):
        expected = pipe(text)
        for mask, rows in zip(answer["masks"], [expected] if count == 1 else expected, strict=True):
            assert text[mask["start"] : mask["end"]] == "[MASK]"
            # decode() keeps the ## of a single piece that continues a word; here it says so by joining.
            tokens = [row["token_str"].removeprefix("##") for row in rows]
            assert [candidate["token"] for candidate in mask["candidates"]] == tokens
            scores = [row["score"] for row in rows]
            found = [candidate["score"] for candidate in mask["candidates"]]
            np.testing.assert_allclose(found, scores, rtol=0, atol=TOLERANCE)
            seen.add(tokens[0])
    assert len(seen) > 3


def test_filled_texts_keep_the_users_own(both):
    """A pipeline gives the decoded tokens, so that case, accents and spaces are lost: compared without."""
    made = both("AlbertForMaskedLM")
    text = "Ada  Lovelace wrote [MASK] for a Caf\u00e9."
    answer, expected = made.ours.fill_mask(text), made.pipeline("fill-mask")(text)
    for candidate, row in zip(answer["masks"][0]["candidates"], expected, strict=True):
        assert candidate["text"].startswith("Ada  Lovelace wrote")
        assert candidate["text"].endswith(" for a Caf\u00e9.")
        bare = candidate["text"].lower().replace("\u00e9", "e").replace(" ", "")
        assert bare == row["sequence"].replace(" ", "")


def beginning(row, text):
    """Where a pipeline's row begins: SentencePiece's tokens have the space before a word among theirs."""
    rest = text[row["start"] :]
    return row["start"] + len(rest) - len(rest.lstrip())


def same_entities(found, rows, text):
    assert [(entity["label"], entity["start"], entity["end"]) for entity in found] == [
        (row["entity_group"], beginning(row, text), row["end"]) for row in rows
    ]
    scores = [row["score"] for row in rows]
    np.testing.assert_allclose([entity["score"] for entity in found], scores, rtol=0, atol=TOLERANCE)


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words:UserWarning")
def test_tag(both):
    """Words of letters: of all between two spaces a pipeline makes one word, and two of a lone space mark."""
    made = both("AlbertForTokenClassification", **labels(BIO))
    texts = [text for text in plain_texts(80) if "\u2581" not in made.tokenizer.tokenize(text)]
    assert len(texts) > 40
    pipe = made.pipeline("token-classification", aggregation_strategy="first")
    found = made.ours.tag(texts)
    for text, answer, rows in zip(texts, found, pipe(texts), strict=True):
        same_entities(answer, rows, text)
    assert {entity["label"] for answer in found for entity in answer} == {"PER", "LOC"}
    assert any(" " in entity["text"] for answer in found for entity in answer)


def test_tag_with_a_tokenizer_that_knows_words(both):
    """Signs and Chinese characters are words of their own on both sides."""
    made = both("AlbertForTokenClassification", "word pieces", **labels(BIO))
    pipe = made.pipeline("token-classification", aggregation_strategy="first")
    for text, answer, rows in zip(TEXTS, made.ours.tag(TEXTS), pipe(TEXTS), strict=True):
        same_entities(answer, rows, text)


def test_every_word_has_the_label_of_its_first_token(both):
    """Where a pipeline's words differ from ours its tokens still tell: also for signs, and mere space marks.

    Labels of this form merge in a pipeline only; here neighbours of the same part of speech stay apart.
    """
    names = ("NOUN", "VERB", "ADJ")
    made = both("AlbertForTokenClassification", **labels(names))
    pipe = made.pipeline("token-classification", aggregation_strategy="none")
    seen = set()
    for text, answer, rows in zip(TEXTS, made.ours.tag(TEXTS), pipe(TEXTS), strict=True):
        first = {}
        for row in rows:
            first.setdefault(beginning(row, text), row)
        tagged = {at for entity in answer for at in range(entity["start"], entity["end"])}
        assert {at for at, character in enumerate(text) if character.isalnum()} <= tagged
        for entity in answer:
            row = first[entity["start"]]
            assert entity["label"] == row["entity"], (text, entity)
            assert entity["score"] == pytest.approx(row["score"], abs=TOLERANCE)
            seen.add(entity["label"])
    assert seen == {*names}
