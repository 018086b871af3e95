"""Texts that cannot be answered, and methods that do not fit the model."""

import pytest

from albert_runtime import AlbertError, InputError, Predictor
from albert_runtime.artifact.tasks import TASKS
from albert_runtime.batch.packed import ModelLimits
from albert_runtime.text.registry import METHODS

from ..scripted import answer_one, setting


@pytest.fixture
def make(make_task):
    return lambda task, **changes: Predictor(make_task(task, **changes), backend="native")


@pytest.fixture
def classifier(make):
    return make("sequence-classification", labels=("bad", "good", "odd"))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", ""], "row 1 is an empty text; leave it out"),
        (["a", " \n\t"], "row 1 is an empty text"),
        (["a", ("b", "")], "row 1 is an empty text"),
        (["a", "\ud800"], "row 1 is no valid Unicode .surrogates not allowed"),
        (["a", "\ud800 b"] * 2, "row 1 is no valid Unicode"),
        (["a", 3], "row 1 is of type int, not a string or a pair of strings"),
        (["a", [1, 2]], "row 1 is of type int, not a string"),
        (["a", ["b"]], "row 1 is of type list"),
        (
            ["a"] * 300 + ["x " * 50_000],
            "row 300 is at least [0-9]{2,4} tokens long, max_position_embeddings is 64; .*trunc",
        ),
        (("a", "b"), r"a tuple of two strings is ambiguous; write \[\(a, b\)\] for a pair"),
        (3, "texts must be a string or strings, not int"),
        (b"a", "texts must be a string or strings, not bytes"),
        (None, "texts must be a string or strings, not NoneType"),
    ],
)
def test_bad_texts_name_their_row(classifier, texts, message):
    with pytest.raises(InputError, match=message):
        classifier.classify(texts)


@pytest.mark.parametrize("task", ["token-classification", "masked-lm"])
def test_methods_of_one_text_take_no_pairs(make, task):
    predictor = make(task, labels=("O",)) if task == "token-classification" else make(task)
    with pytest.raises(InputError, match="row 0 is of type tuple, not a string"):
        (predictor.tag if task == "token-classification" else predictor.fill_mask)([("a", "[MASK]")])


@pytest.mark.parametrize("text", ["", " ", ("a", "")])
def test_run_refuses_empty_texts_too(classifier, text):
    with pytest.raises(InputError, match="row 1 is an empty text; leave it out"):
        classifier.run(["a", text])


def test_too_long_texts_are_cut_on_demand(classifier):
    long = "Anna " + "a " * 50_000
    assert classifier.classify(long, truncate=True) == classifier.classify("Anna " + "a " * 61)


CALLS = {
    "classify": lambda predictor: predictor.classify("a"),
    "tag": lambda predictor: predictor.tag("a"),
    "answer": lambda predictor: predictor.answer("a", "b"),
    "fill_mask": lambda predictor: predictor.fill_mask("[MASK]"),
    "choose": lambda predictor: predictor.choose("a", ["b"]),
    "embed": lambda predictor: predictor.embed("a"),
}


LONG = "a " * 50_000
ASK = {
    "sequence-classification": lambda predictor, text, **options: predictor.classify(text, **options),
    "token-classification": lambda predictor, text, **options: predictor.tag(text, **options),
    "masked-lm": lambda predictor, text, **options: predictor.fill_mask(text, **options),
    "multiple-choice": lambda predictor, text, **options: predictor.choose("a", [text], **options),
    "model": lambda predictor, text, **options: predictor.embed(text, **options),
    "question-answering": lambda predictor, text: predictor.answer(text, "a"),
}


@pytest.mark.parametrize("task", ASK)
def test_every_method_refuses_bad_texts_and_cuts_long_ones(make, task):
    predictor = make(task, labels=("O", "B-X") if task.endswith("-classification") else ())
    for text, message in (
        ("", "row 0 is an empty text; leave it out"),
        ("\u3000\n", "row 0 is an empty text"),
        ("a \udfff", "row 0 is no valid Unicode .surrogates not allowed"),
        (LONG, r"row 0(, choice 0)?:? (is|the question is) (at least \d{4}|50\d\d\d) tokens long"),
    ):
        if text is LONG and task == "token-classification":
            continue  # it runs in windows
        with pytest.raises(InputError, match=message):
            ASK[task](predictor, text)
    if task != "question-answering":  # whose long contexts run in windows, whole
        assert ASK[task](predictor, "[MASK] " + LONG, truncate=True) is not None


@pytest.mark.parametrize("task", TASKS)
def test_a_method_that_does_not_fit_names_the_one_that_does(make, task):
    labels = ("O", "B-X") if task.endswith("-classification") else ()
    predictor = make(task, labels=labels)
    assert predictor.task == task
    fitting = [name for name, method in METHODS.items() if task in method.tasks]
    assert len(fitting) == 1
    for name, call in CALLS.items():
        if name in fitting:
            assert call(predictor) is not None
        else:
            usage = METHODS[fitting[0]].usage.split("(", maxsplit=1)[0]
            with pytest.raises(
                InputError, match=rf"{name} is for .* models; tiny is a {task} model: use {usage}\("
            ):
                call(predictor)


def test_the_choices_must_be_a_list(make):
    predictor = make("multiple-choice")
    for choices in ("ab", [], 3):
        with pytest.raises(InputError, match="row 0 must have its choices in a list"):
            predictor.choose("a", choices)
    with pytest.raises(InputError, match=r"row 0 must be a pair \(prompt, choices\)"):
        list(predictor.stream("choose", ["a"]))
    with pytest.raises(InputError, match="row 1, choice 1 is 66 tokens long"):
        list(predictor.stream("choose", [("a", ["b"]), ("a", ["b", "b " * 62])]))


def test_unknown_methods_and_options(classifier):
    with pytest.raises(InputError, match="method 'run' is unknown; choose one of classify, tag"):
        classifier.stream("run", [])
    with pytest.raises(InputError, match="classify has no option 'pooling'; it has truncate, top_k"):
        classifier.stream("classify", [], pooling="cls")


def test_without_a_tokenizer(make):
    with pytest.raises(InputError, match=r"tiny has none; export again from a model"):
        make("sequence-classification", labels=("a", "b"), tokenizer=None).classify("a")


def test_a_tokenizer_of_another_model(piece_tokenizer):
    made = setting(piece_tokenizer, "sequence-classification", None, ("a", "b"), ModelLimits(6, 2, 64))
    with pytest.raises(
        InputError, match=r"row 0: the tokenizer gives id \d+, the model has 6 ids; export again"
    ):
        answer_one(made, "classify", "Anna")


def test_a_program_without_manifest_has_no_task(make_artifact, tokenizer_file, tmp_path, monkeypatch):
    predictor = Predictor(make_artifact(tokenizer=tokenizer_file))
    object.__setattr__(predictor._model.artifact, "manifest", None)
    with pytest.raises(
        AlbertError, match=r"classify needs to know the model's task, and tiny has no tiny\.man"
    ):
        predictor.classify("a")
