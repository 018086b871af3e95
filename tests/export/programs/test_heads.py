"""Programs with more heads than one, or a head that is spelled in an unusual form."""

import json

import numpy as np
import pytest

from albert_export.errors import ExportError
from albert_export.pipeline import export as pipeline
from albert_export.programs.albert import ProgramOutput, take_albert
from albert_export.programs.comparison import as_ours, comparison_batches, taken_program
from albert_export.programs.program_file import read_program
from albert_export.programs.run import run_program
from albert_runtime.errors import AlbertError

from ..albert_float64 import answers
from .spellings.nodes import CONFIG, HIDDEN, tensors
from .spellings.program import Program, save


def weights(columns, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(0, 0.5, (HIDDEN, columns)), generator.normal(0, 0.5, columns)


class Headed(Program):
    """A program of heads: each makes an output of the program's states and its pooled output."""

    def __init__(self, *heads):
        super().__init__({})
        self.heads = heads

    def outputs(self):
        states, pooled = super().outputs()
        return [head(self, states, pooled) for head in self.heads]

    def map(self, x, columns):
        """A linear map of [B, T, H] or [B, H]."""
        weight, bias = weights(columns)
        return self.add("Add", self.add("MatMul", x, weight), bias, name=f"map to {columns}")


def logits(columns):
    """Scores of whole texts."""
    return lambda program, states, pooled: program.map(pooled, columns)


def token_logits(columns):
    return lambda program, states, pooled: program.map(states, columns)


@pytest.fixture
def graph(tmp_path):
    """graph(program) -> it, as read from its file."""
    return lambda program: read_program(save(tmp_path, program))


def named(graph):
    return [name for name, _ in graph.outputs]


def test_logits_and_their_probabilities(graph):
    def probabilities(program, states, pooled):
        program.logits = program.map(pooled, 3)
        return program.add("Softmax", program.logits, axis=-1)

    one = graph(Headed(probabilities, lambda program, states, pooled: program.logits))
    albert, (softened, plain) = take_albert(one, None), named(one)
    assert albert.outputs == {"logits": ProgramOutput(plain)}
    assert albert.head.activation == "softmax"
    assert albert.left_out == {softened: "it is softmax of a linear map of the pooled output"}


def test_two_scores_of_each_token(graph):
    """They are of two classes, or of an answer's start and end: the user says."""
    one = graph(Headed(token_logits(2)))
    (name,) = named(one)
    classes = take_albert(one, None)
    assert classes.head.task == "token-classification" and classes.head.num_labels == 2
    assert classes.outputs == {"logits": ProgramOutput(name)}
    spans = take_albert(one, "question-answering")
    assert spans.head.task == "question-answering"
    assert spans.outputs == {
        "start_logits": ProgramOutput(name, column=0),
        "end_logits": ProgramOutput(name, column=1),
    }
    np.testing.assert_array_equal(spans.tensors["qa_outputs.weight"], weights(2)[0].astype(np.float32))


def test_three_scores_of_each_token_are_no_spans(graph):
    with pytest.raises(ExportError, match="has the head of token-classification, not of question-answering"):
        take_albert(graph(Headed(token_logits(3))), "question-answering")


def test_two_heads(graph):
    one = graph(Headed(token_logits(5), logits(3)))
    tokens, texts = named(one)
    for task, name, labels in (("sequence-classification", texts, 3), ("token-classification", tokens, 5)):
        albert = take_albert(one, task)
        assert (albert.head.task, albert.head.num_labels) == (task, labels)
        assert albert.outputs == {"logits": ProgramOutput(name)}
        np.testing.assert_array_equal(
            albert.tensors["classifier.weight"], weights(labels)[0].astype(np.float32)
        )
    with pytest.raises(ExportError, match="head of sequence-classification and token-classification, not"):
        take_albert(one, "masked-lm")


def test_a_map_of_first_tokens_alone(graph):
    one = graph(Headed(lambda program, states, pooled: program.map(program.first(states), 3)))
    (name,) = named(one)
    with pytest.raises(ExportError) as error:
        take_albert(one, None)
    assert str(error.value) == (
        "it is no ALBERT that we know: of its outputs none is one of ALBERT's heads: "
        f"{name} is a linear map of first tokens"
    )


class TwoPoolers(Program):
    """Its first output is pooled from an earlier layer."""

    def layer(self, x, number):
        if number == CONFIG.num_hidden_layers - 1:
            weight, bias = weights(HIDDEN)
            self.earlier = self.add("Tanh", self.add("Gemm", self.first(x), weight, bias))
        return super().layer(x, number)

    def outputs(self):
        return [*super().outputs(), self.earlier][::-1]


def test_a_pooler_of_an_earlier_layer(graph):
    one = graph(TwoPoolers({}))
    earlier, pooled, states = named(one)
    albert = take_albert(one, None)
    assert albert.outputs == {
        "last_hidden_state": ProgramOutput(states),
        "pooled_output": ProgramOutput(pooled),
    }
    assert albert.left_out == {earlier: "it is the pooled output"}
    np.testing.assert_array_equal(albert.tensors["pooler.weight"], tensors()["pooler.weight"])


def squeezed(program, states, pooled):
    return program.add("Squeeze", program.map(pooled, 1), [-1])


def flat(program, states, pooled):
    return program.add("Reshape", program.map(states, 4), [-1, 4])


@pytest.mark.parametrize(
    ("head", "task", "rank"), [(squeezed, "sequence-classification", 1), (flat, "token-classification", 2)]
)
def test_answers_without_or_with_joined_axes(graph, head, task, rank):
    """As ONNX Runtime gives them, they are brought into our shapes and equal our answers."""
    one = graph(Headed(head))
    albert = take_albert(one, None)
    assert albert.head.task == task
    program = taken_program(one, albert)
    batches = comparison_batches(program, albert.config)
    for batch, given in zip(batches, run_program(program, batches), strict=True):
        assert given["logits"].ndim == rank
        ours = answers(albert.config, albert.head, albert.tensors, batch)
        theirs = as_ours(program, given, ours)["logits"]
        assert theirs.shape == ours["logits"].shape
        kept = batch["attention_mask"] == 1 if task == "token-classification" else slice(None)
        np.testing.assert_allclose(theirs[kept], ours["logits"][kept], rtol=0, atol=1e-5)


def test_an_answer_of_another_size_keeps_its_shape(graph):
    one = graph(Headed(logits(3)))
    program = taken_program(one, take_albert(one, None))
    given = as_ours(program, {"logits": np.zeros((2, 3))}, {"logits": np.zeros((4, 3))})
    assert given["logits"].shape == (2, 3)


def test_sigmoid_of_several_labels(tmp_path, run, monkeypatch):
    """The program's scores and the config's kind of labels, both."""
    made = []

    def stop(request, report):
        made.append(request.source.head)
        raise AlbertError("far enough")

    monkeypatch.setattr(pipeline, "export", stop)
    save(tmp_path, Headed(lambda program, states, pooled: program.add("Sigmoid", program.map(pooled, 3))))
    said = {"model_type": "albert", "problem_type": "multi_label_classification"}
    (tmp_path / "config.json").write_text(json.dumps(said))
    run(tmp_path)
    assert made[0].activation == "sigmoid" and made[0].multi_label


def test_scores_without_their_axis_exported(tmp_path, run):
    """The engine's answers are compared with the program's, whatever its shape."""
    save(tmp_path, Headed(squeezed))
    outcome = run(tmp_path, "-o", tmp_path / "out", "--name", "scores")
    assert outcome.code == 0, outcome.err
    program = json.loads((tmp_path / "out" / "scores.manifest.json").read_text())["verification"]["program"]
    assert program["file"] == "model.onnx" and program["native"]


def test_an_encoder_whose_states_the_program_does_not_give(tmp_path, run):
    save(tmp_path, Headed(logits(3)))
    outcome = run(tmp_path, "-o", tmp_path / "out", "--name", "states", "--task", "model")
    assert outcome.code == 0, outcome.err
    assert "model.onnx is not compared: it gives no output of this task" in outcome.err
    record = json.loads((tmp_path / "out" / "states.manifest.json").read_text())["verification"]["program"]
    assert record == {"file": "model.onnx", "left_out": "it gives no output of this task"}
