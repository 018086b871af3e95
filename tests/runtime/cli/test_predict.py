"""albert-predict: lines in, JSON lines out, as a Unix filter."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from albert_runtime import Predictor
from albert_runtime.artifact.sentence import SentenceHead, SentenceTexts
from albert_runtime.cli.lines import read_lines
from albert_runtime.cli.predict import main


@pytest.fixture
def make(make_task):
    return partial(make_task, max_position_embeddings=32)


@pytest.fixture
def classifier(make):
    return make("sequence-classification", labels=("bad", "good"))


@pytest.fixture
def predict(capfdbinary, tmp_path):
    """Run the command on lines in a file: (exit code, JSON lines, stderr)."""

    def predict(artifact, lines, *options):
        file = tmp_path / "lines"
        file.write_bytes(lines if isinstance(lines, bytes) else lines.encode())
        capfdbinary.readouterr()
        code = main([str(artifact), str(file), "--threads", "1", *options])
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        assert not out or out.endswith(b"\n")
        return code, [json.loads(line) for line in out.splitlines()], err.decode()

    return predict


def test_texts(predict, classifier):
    code, found, err = predict(classifier, "Anna lives\nwho\r\nin Paris")
    assert (code, err) == (0, "")
    assert found == Predictor(classifier).classify(["Anna lives", "who", "in Paris"])


def test_more_lines_than_are_answered_at_a_time(predict, classifier):
    lines = ["Anna", "who lives", "in Paris"] * 200
    code, found, err = predict(classifier, "\n".join(lines))
    assert (code, err) == (0, "")
    assert found == Predictor(classifier).classify(lines)


def test_json_and_texts_may_mix(predict, classifier):
    lines = [
        json.dumps({"text": "Anna", "pair": "who", "id": 7}),
        "who",
        json.dumps({"pair": "a", "text": "b"}),
    ]
    code, found, _ = predict(classifier, "\n".join(lines) + "\n", "--top-k", "2")
    assert code == 0
    expected = Predictor(classifier).classify([("Anna", "who"), "who", ("b", "a")], top_k=2)
    assert found == expected


def test_the_activation_of_scores(predict, classifier):
    _, found, _ = predict(classifier, "who\n", "--activation", "none")
    logits = Predictor(classifier).run(["who"])["logits"][0].tolist()
    assert sorted(found[0]["probabilities"].values()) == sorted(logits)


def test_every_task(predict, make):
    path = make("token-classification", labels=("O", "B-X"))
    _, found, _ = predict(path, "Anna lives\n")
    assert found == [{"entities": Predictor(path).tag("Anna lives")}]

    path = make("masked-lm")
    _, found, _ = predict(path, "Anna [MASK]\n", "--top-k", "2")
    assert found == [Predictor(path).fill_mask("Anna [MASK]", top_k=2)]

    path = make("pretraining")
    _, found, _ = predict(path, '{"text": "Anna [MASK]"}\n')
    assert found == [Predictor(path).fill_mask("Anna [MASK]")]

    path = make("question-answering")
    _, found, _ = predict(path, '{"question": "who", "context": "Anna lives"}\n')
    assert found == [Predictor(path).answer("who", "Anna lives")]
    _, found, _ = predict(path, '{"question": "who", "context": "Anna lives"}\n', "--allow-no-answer")
    assert found == [Predictor(path).answer("who", "Anna lives", allow_no_answer=True)]

    path = make("multiple-choice")
    _, found, _ = predict(path, '{"prompt": "who", "choices": ["Anna", "Smith"]}\n')
    assert found == [Predictor(path).choose("who", ["Anna", "Smith"])]

    path = make("model")
    _, found, _ = predict(path, "Anna\n", "--pooling", "cls")
    np.testing.assert_array_equal(
        np.float32(found[0]["embedding"]), Predictor(path).embed("Anna", pooling="cls")
    )


def test_prompts_of_a_sentence_model(predict, make):
    texts = SentenceTexts({"query": "who ", "document": ""})
    path = make("model", sentence=SentenceHead(("max",)), sentence_texts=texts)
    for options, name in ((("--prompt-name", "query"), "query"), ((), "document")):
        _, found, _ = predict(path, "Anna\n", *options)
        wanted = Predictor(path).embed("Anna", prompt_name=name)
        assert np.array_equal(np.float32(found[0]["embedding"]), wanted)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "line 2 is an empty text; leave it out"),
        (b"\xff", "line 2: not valid UTF-8 (invalid start byte at byte 0)"),
        (
            b"{oops",
            "line 2: not valid JSON (Expecting property name enclosed in double quotes: line 1 column 2",
        ),
        (b'{"txt": "a"}', 'line 2: \'text\' is missing; write {"text": "..."}'),
        (b'{"text": 3}', "line 2 is of type int, not a string or a pair of strings"),
        (b'{"text": "a", "pair": null}', "line 2 is of type NoneType, not a string"),
        (b'{"text": "\\ud800"}', "line 2 is no valid Unicode (surrogates not allowed)"),
        (b"a " * 40, "line 2 is 42 tokens long, max_position_embeddings is 32"),
        (b"{" * 100_000, "line 2: not valid JSON"),
        (b'{"a":' * 100_000, "line 2: not valid JSON (nested too deeply)"),
    ],
)
def test_a_bad_line_does_not_stop_the_others(predict, classifier, line, message):
    code, found, err = predict(classifier, b"Anna\n" + line + b"\nwho\n")
    assert code == 1
    assert found[::2] == Predictor(classifier).classify(["Anna", "who"])
    assert list(found[1]) == ["error"]
    assert found[1]["error"].startswith(message)
    assert err.startswith(f"albert-predict: {message}")
    assert err.count("\n") == 1


def test_many_bad_lines_cost_no_good_one(predict, classifier):
    lines = ["" if number % 3 == 0 else "who " * (number % 50 + 1) for number in range(1, 399)]
    code, found, err = predict(classifier, "\n".join(lines))
    assert code == 1
    assert len(found) == 398
    bad = {number for number in range(1, 399) if number % 3 == 0 or number % 50 + 1 > 30}
    assert {number for number, answer in enumerate(found, 1) if "error" in answer} == bad
    assert all(
        answer["error"].startswith(f"line {number} ")
        for number, answer in enumerate(found, 1)
        if number in bad
    )
    predictor = Predictor(classifier)
    assert [answer for answer in found if "label" in answer] == predictor.classify(
        [line for number, line in enumerate(lines, 1) if number not in bad]
    )
    numbers = [int(line.split("line ")[1].split(" ")[0]) for line in err.splitlines()]
    assert numbers == sorted(bad)


def test_choices_at_fault_are_named(predict, make):
    path = make("multiple-choice")
    _, found, _ = predict(path, '{"prompt": "a", "choices": ["b", "%s"]}\n' % ("b " * 40))
    assert found[0]["error"].startswith("line 1, choice 1 is 44 tokens long")


def test_a_byte_order_mark_is_no_text(predict, classifier):
    _, found, _ = predict(classifier, b"\xef\xbb\xbfAnna\n")
    assert found == [Predictor(classifier).classify("Anna")]


def test_strict_stops_at_the_first_bad_line(predict, classifier):
    code, found, err = predict(classifier, "Anna\n\nwho\n", "--strict")
    assert code == 1
    assert len(found) == 2
    assert "line 2 is an empty text" in err


def test_formats(predict, classifier):
    _, found, _ = predict(classifier, '{"text": "a"}\n', "--format", "text")
    assert found == Predictor(classifier).classify(['{"text": "a"}'])
    code, found, _ = predict(classifier, 'Anna\n["Anna"]\n{"text": "a"}\n', "--format", "json")
    assert code == 1
    assert found[0]["error"].startswith("line 1: not valid JSON (Expecting value")
    assert found[1]["error"] == 'line 2: not a JSON object; write {"text": "..."}'
    assert found[2] == Predictor(classifier).classify("a")


def test_texts_for_a_model_that_needs_pairs(predict, make):
    code, found, _ = predict(make("question-answering"), "who\n")
    assert code == 1
    example = '{"question": "...", "context": "..."}'
    assert found == [{"error": f"line 1: this model needs JSON lines: {example}"}]


def test_truncate(predict, classifier):
    code, found, _ = predict(classifier, "a " * 40, "--truncate")
    assert code == 0
    assert found == [Predictor(classifier).classify("a " * 40, truncate=True)]


def test_nothing_in_nothing_out(predict, classifier):
    assert predict(classifier, "") == (0, [], "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pooling", "cls"], "error: classify has no option 'pooling'; it has truncate, top_k"),
        (["--allow-no-answer"], "error: classify has no option 'allow_no_answer'; it has truncate, top_k"),
        (["--backend", "paddle"], "error: "),
    ],
)
def test_options_that_do_not_fit(predict, classifier, options, message):
    code, found, err = predict(classifier, "a\n", *options)
    assert (code, found) == (2, [])
    assert err.startswith(f"albert-predict: {message}")
    assert err.count("\n") == 1


def test_what_cannot_be_read(classifier, tmp_path, capsys):
    assert main([str(tmp_path / "none"), "-"]) == 2
    assert "none.manifest.json exists; export it with albert-export" in capsys.readouterr().err
    assert main([str(classifier), str(tmp_path / "none")]) == 2
    assert (
        capsys.readouterr().err == f"albert-predict: error: {tmp_path / 'none'}: No such file or directory\n"
    )
    assert main([str(classifier), str(tmp_path)]) == 2
    assert "Is a directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [[], ["x", "-", "--top-k", "0"], ["x", "-", "--threads", "a"], ["x", "-", "--no"]]
)
def test_wrong_usage(capsys, options):
    with pytest.raises(SystemExit) as raised:
        main(options)
    assert raised.value.code == 2
    assert "usage: albert-predict" in capsys.readouterr().err


def test_help_has_an_example_for_every_task(capsys):
    from albert_runtime.artifact.tasks import TASKS

    with pytest.raises(SystemExit) as raised:
        main(["--help"])
    assert raised.value.code == 0
    text = capsys.readouterr().out
    for task in TASKS:
        assert task in text


@pytest.mark.parametrize("size", [1, 7, 2**16])
def test_lines_are_cut_at_their_ends_only(monkeypatch, size):
    monkeypatch.setattr("albert_runtime.cli.lines._BLOCK_BYTES", size)
    lines = [b"a", b"", b"b" * 100, b"\r", b"c"]
    for end in (b"", b"\n"):
        reader, writer = os.pipe()
        with os.fdopen(writer, "wb") as file:
            file.write(b"\n".join(lines) + end)
        assert [line for block in read_lines(reader) for line in block] == lines
        os.close(reader)


def test_importing_the_command_loads_no_framework():
    code = (
        "import sys, albert_runtime.cli.predict;"
        "print([m for m in ('onnxruntime', 'paddle', 'tokenizers', 'onnx', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_fine_tuned_model_in_three_lines(classifier):
    """As README says it."""
    predictor = Predictor(Path(classifier).parent)
    assert predictor.classify(["Anna lives in Paris"])[0]["label"] in ("bad", "good")


def test_options_and_arguments_in_any_order(capfdbinary, classifier, tmp_path):
    file = tmp_path / "lines"
    file.write_text("who\n")
    model, lines, options = str(classifier), str(file), ["--top-k", "2"]
    for words in (
        [model, *options, lines],
        [*options, model, lines],
        [model, lines, *options],
        [model, "--truncate", lines, *options],
    ):
        assert main([*words, "--threads", "1"]) == 0
        assert len(json.loads(capfdbinary.readouterr().out)["probabilities"]) == 2


def test_words_to_choose_from(predict, make):
    path = make("masked-lm")
    _, found, _ = predict(path, "who [MASK]\n", "--target", "paris", "--target", "a", "--top-k", "3")
    assert found == [Predictor(path).fill_mask("who [MASK]", targets=["paris", "a"], top_k=3)]
    assert len(found[0]["masks"][0]["candidates"]) == 2
