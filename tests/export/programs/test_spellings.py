"""However a program spells it, it is the same ALBERT; what is not the same is refused by name."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from albert_export.errors import ExportError
from albert_export.programs.albert import take_albert
from albert_export.programs.program_file import read_program
from albert_runtime.artifact.tasks import Head

from ..albert_float64 import answers
from .spellings.attention import PADDING
from .spellings.nodes import CONFIG, WAYS, tensors
from .spellings.program import write

SINGLE = [(part, way) for part, ways in WAYS.items() for way in ways]


def check(path):
    albert = take_albert(read_program(path), None)
    assert albert.config == CONFIG
    assert albert.notes == () and albert.left_out == {}
    assert list(albert.inputs) == list(albert.inputs.values()) and len(albert.inputs) == 3
    expected = tensors()
    assert albert.tensors.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(albert.tensors[name], values, name)


@pytest.mark.parametrize(("part", "way"), SINGLE)
def test_each_way_alone(tmp_path, part, way):
    path = write(tmp_path, {part: way})
    check(path)
    # Run, it is what the test takes it for.
    ids = np.array([[3, 1, 10, 4, 9], [7, 2, 0, 0, 0]])
    batch = {"input_ids": ids, "attention_mask": (ids > 0) * 1, "token_type_ids": ids % 2}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    hidden, pooled = session.run(None, batch)
    expected = answers(CONFIG, Head(), tensors(), batch)
    kept = ids > 0
    np.testing.assert_allclose(hidden[kept], expected["last_hidden_state"][kept], rtol=0, atol=1e-5)
    np.testing.assert_allclose(pooled, expected["pooled_output"], rtol=0, atol=1e-5)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ways=st.fixed_dictionaries({part: st.sampled_from(ways) for part, ways in WAYS.items()}))
def test_ways_together(tmp_path, ways):
    check(write(tmp_path, ways))


def test_a_word_that_masks(tmp_path):
    albert = take_albert(read_program(write(tmp_path, {}, "a word that masks")), None)
    assert albert.pad_id == PADDING and albert.config == replace(CONFIG, pad_token_id=PADDING)
    assert albert.inputs == {"input_ids": "input_ids", "token_type_ids": "token_type_ids"}
    assert albert.notes == (
        "the program masks word 3; the export takes attention_mask",
        "the program makes no use of its input attention_mask",
    )


def test_an_input_of_positions(tmp_path):
    albert = take_albert(read_program(write(tmp_path, {"positions": "input"}, "an input of positions")), None)
    assert albert.config == CONFIG and "position_ids" not in albert.inputs.values()
    assert albert.notes == ("the program's input position_ids is left out: positions count from 0",)
    position = "embeddings.position_embeddings.weight"
    np.testing.assert_array_equal(albert.tensors[position], tensors()[position])


WRONG = {
    "another scale": r"Add \d+ \(Add\) .* it scales attention's scores by 0.5, an ALBERT with 3 columns",
    "another activation": r"swish \d+ \(Mul\) .* its function is no gelu, gelu_new, relu, tanh or sigmoid",
    "another epsilon": r"LayerNormalization \d+ .* its epsilon is 0.001, that of the embeddings 1e-05",
    "another sum": r"sum \d+ \(Add\) .* it adds the feed-forward output and a hidden state",
    "a norm before": r"Add \d+ .* it adds the feed-forward output and attention's output",
    "two biases": r"second bias \d+ \(Add\) .* ALBERT has no such vector here",
    "a causal mask": r"causal \d+ \(Add\) .* its mask differs from token to token, as in a decoder",
    "a mask in one layer": r"q x k \d+ \(MatMul\) .* its layers' masks differ",
    "softmax over queries": r"softmax \d+ \(Softmax\) .* softmax over another axis than the last",
    "no positions": r"LayerNormalization \d+ .* the sum before it has no position embeddings",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_not_the_same(tmp_path, wrong):
    path = write(tmp_path, {}, wrong)
    with pytest.raises(ExportError, match=f"^it is no ALBERT that we know: {WRONG[wrong]}"):
        take_albert(read_program(path), None)
    onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
