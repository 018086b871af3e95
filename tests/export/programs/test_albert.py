"""The ALBERTs of programs that other tools wrote, against the models that these were made of."""

from dataclasses import replace

import numpy as np
import pytest

from albert_export.programs.comparison import as_program_gives, taken_program
from albert_runtime.artifact import tasks
from albert_runtime.artifact.sentence import NORMALIZE, SentenceHead, Step
from albert_runtime.artifact.tasks import Head
from albert_runtime.backends.sentence_pooling import SentencePooler

from ..albert_float64 import answers
from .stored import Case, stored

REFUSED = {"onnxruntime/int8-model", "onnxruntime/int8-sequence-classification", "torch-script/model-swish"}
PROGRAMS = [name for name in (*stored("torch"), *stored("paddle")) if name not in REFUSED]

# Words of names; programs of none of these are of the encoder.
TASKS = {
    "masked-lm": tasks.MASKED_LM,
    "fill-mask": tasks.MASKED_LM,
    "pretraining": tasks.PRETRAINING,
    "multiple-choice": tasks.MULTIPLE_CHOICE,
    "question-answering": tasks.QUESTION_ANSWERING,
    "sequence-classification": tasks.SEQUENCE_CLASSIFICATION,
    "text-classification": tasks.SEQUENCE_CLASSIFICATION,
    "token-classification": tasks.TOKEN_CLASSIFICATION,
}
MEAN, NORMALIZED = SentenceHead(("mean",)), (Step(NORMALIZE),)
SENTENCES = {
    "torch-script/sentence-mean": MEAN,
    "torch-script/sentence-mean-normalized": replace(MEAN, steps=NORMALIZED),
    "sentence-transformers/optimum-mean": replace(MEAN, steps=NORMALIZED),
    "sentence-transformers/optimum-max": SentenceHead(("max",), NORMALIZED),
    "sentence-transformers/optimum-cls": SentenceHead(("cls",), NORMALIZED),
}
# Where a tool changed the model: the positions that rows of a fixed length leave, an epsilon that float16 can
# hold, another activation, no padding.
POSITIONS = {"max_position_embeddings": 16}
EPSILON = {"layer_norm_eps": 5.96046e-08}
CHANGED = {
    "onnx-passes/half-inside-masked-lm": EPSILON,
    "onnx-passes/half-model": EPSILON,
    "onnx-passes/half-sequence-classification": EPSILON,
    "onnx-passes/onnxsim-fixed-model": POSITIONS,
    "onnxruntime/fused-fast-gelu-model-gelu": {"hidden_act": "gelu_new"},
    "onnxruntime/fused-model-fixed-opset11": POSITIONS,
    "paddle2onnx-json/model-fixed-opset13": POSITIONS,
    "paddle2onnx-json/model-no-padding-id-opset13": {"pad_token_id": 0},
    "torch-dynamo/model-fixed": POSITIONS,
}
SAME_ACTIVATION = {"gelu_fast": "gelu_new", "gelu_pytorch_tanh": "gelu_new"}
# Of our names; where the program's are others.
INPUTS = {
    "torch-script/model-unnamed": {"input_ids": "input.1", "token_type_ids": "input.3"},
    "torch-script-old/model-unnamed": {
        "input_ids": "input.1",
        "attention_mask": "onnx::Unsqueeze_1",
        "token_type_ids": "input.3",
    },
    "paddle2onnx-json/model-two-named-opset13": {"attention_mask": "token_type_ids"},
}
NO_TYPES = "the program has no token_type_ids: every token has type 0 in it"
NO_MASK = "the program masks nothing; the export takes attention_mask"
NO_ENDS = "the program gives no end scores (PaddleNLP's gives the start scores twice); the export does"


@pytest.fixture(scope="session")
def case(stored_program):
    """case(name) -> the Case, read once for all tests."""
    cases = {}

    def of(name):
        return cases.setdefault(name, Case(stored_program(name)))

    return of


def task_of(name):
    return next((task for word, task in TASKS.items() if word in name), tasks.MODEL)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_config_is_that_of_the_model(case, name):
    one = case(name)
    said, changed = one.config, CHANGED.get(name, {})
    config = one.albert.config.to_dict()
    own = {"padding_idx": config.pop("padding_idx"), "add_pooling_layer": config.pop("add_pooling_layer")}
    for field, value in config.items():
        expected = changed.get(field, said[field])
        if field == "hidden_act":
            expected = SAME_ACTIVATION.get(expected, expected)
        assert value == expected, field
    # A program of ONNX shows the padding row only by zeros, which a tied decoder's table has not.
    shown = one.library == "paddlenlp" and (one.program.suffix != ".onnx" or "masked-lm" in name)
    assert own["padding_idx"] == (said["pad_token_id"] if shown else None)
    pooled = {"last_hidden_state", "pooled_output"} <= one.albert.outputs.keys() or "pooled" in name
    assert own["add_pooling_layer"] == (pooled or one.albert.head.reads_pooled)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_head_is_that_of_the_model(case, name):
    one, task = case(name), task_of(name)
    eps = 1e-5  # PaddleNLP's, whatever the config says; and what says nothing for other tasks
    tied = task == tasks.MASKED_LM  # PaddleNLP's pretraining has a decoder of its own
    if one.library == "huggingface":
        tied = bool(one.config["tie_word_embeddings"])
        if task in (tasks.MASKED_LM, tasks.PRETRAINING):
            eps = CHANGED.get(name, {}).get("layer_norm_eps", one.config["layer_norm_eps"])
    expected = Head.of(
        task,
        num_labels=one.tensors["classifier.weight"].shape[1] if task in tasks.LABELLED else 0,
        tied_decoder=tied,
        decoder_norm_eps=eps,
        activation="softmax" if "softmax" in name else None,
    )
    assert one.albert.head == replace(expected, sentence=SENTENCES.get(name))


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_weights_are_those_of_the_model(case, name):
    """Equal: each number of the file is one of the model's, or its own rounding to 16 bits."""
    one = case(name)
    albert, config = one.albert, one.albert.config
    shapes = {**config.tensor_shapes(), **albert.head.tensor_shapes(config)}
    assert {key: values.shape for key, values in albert.tensors.items()} == shapes
    half = taken_program(one.graph, albert).half
    for key, found in albert.tensors.items():
        expected = one.tensors[key]
        if half:
            expected = expected.astype(np.float16)
        if key == "embeddings.position_embeddings.weight":
            expected = expected[: config.max_position_embeddings]
        if key == "embeddings.word_embeddings.weight" and no_padding_row(one):
            expected = expected.copy()
            expected[one.config["pad_token_id"]] = 0
        np.testing.assert_array_equal(found.astype(np.float32), expected.astype(np.float32), key)


def no_padding_row(one):
    """Whether paddle2onnx wrote zeros for the word that pads, which Paddle looks up as zeros."""
    return (
        "paddle2onnx" in one.folder.parent.name
        and one.albert.config.padding_idx is None
        and (one.config["pad_token_id"] is not None)
    )


@pytest.mark.parametrize("name", PROGRAMS)
def test_inputs_by_their_roles(case, name):
    one = case(name)
    given = [item.name for item in one.graph.inputs]
    expected = {ours: ours for ours in tasks.INPUTS if ours in given}
    if name in INPUTS:
        expected |= INPUTS[name]
        expected = {
            ours: theirs for ours, theirs in expected.items() if ours in INPUTS[name] or ours == theirs
        }
    if "two-named" in name:
        del expected["token_type_ids"]
    assert one.albert.inputs == expected
    assert one.albert.pad_id is None


@pytest.mark.parametrize("name", [name for name in PROGRAMS if "question-answering-opset" not in name])
def test_outputs_by_what_the_program_answers(case, name):
    """Each output of ours equals, computed in float64, the program's own of the name that is taken for it."""
    one = case(name)
    albert = one.albert
    program = taken_program(one.graph, albert)
    assert program.outputs and len(one.batches) == 2
    for given, expected in one.batches:
        assert {
            output.name for output in program.outputs.values()
        } | albert.left_out.keys() == expected.keys()
        batch = {ours: given[theirs] for ours, theirs in albert.inputs.items()}
        ones, zeros = np.ones_like(batch["input_ids"]), np.zeros_like(batch["input_ids"])
        batch = {"attention_mask": ones, "token_type_ids": zeros, **batch}
        found = as_program_gives(program, of_albert(albert, batch))
        for ours, values in found.items():
            theirs = expected[program.outputs[ours].name]
            assert values.shape == theirs.shape
            kept = np.ones(values.shape[:1], bool)
            if values.shape[:2] == batch["input_ids"].shape and albert.head.task != tasks.MULTIPLE_CHOICE:
                kept = batch["attention_mask"] == 1
            tolerance = 4e-3 if program.half else 2e-5
            np.testing.assert_allclose(values[kept], theirs[kept], rtol=0, atol=tolerance, err_msg=ours)


def of_albert(albert, batch):
    """What an ALBERT answers, in float64 and padded to the batch's width."""
    config, head = replace(albert.config, add_pooling_layer="pooler.bias" in albert.tensors), albert.head
    results = answers(config, replace(head, sentence=None), albert.tensors, batch)
    width = batch["input_ids"].shape[-1]
    if head.sentence is not None:
        pooler, kept = SentencePooler(head.sentence, dict(albert.tensors)), batch["attention_mask"] == 1
        rows = [
            pooler.row(states[: len(row)][row[: len(states)]].astype(np.float32), np.flatnonzero(row))
            for states, row in zip(results["last_hidden_state"], kept, strict=True)
        ]
        results[tasks.SENTENCE_EMBEDDING] = np.stack(rows)
    for name in results.keys() & {"last_hidden_state", "prediction_scores", "start_logits", "end_logits"}:
        values = results[name]
        missing = [(0, 0), (0, width - values.shape[1]), *[(0, 0)] * (values.ndim - 2)]
        results[name] = np.pad(values, missing)
    return results


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_the_user_is_told(case, name):
    one = case(name)
    expected = []
    if one.library == "paddlenlp" and "question-answering" in name:
        expected.append(NO_ENDS)
    if "token_type_ids" not in one.albert.inputs:
        expected.append(NO_TYPES)
    if "ids-only" in name:
        expected.append(NO_MASK)
    mask = one.albert.inputs.get("attention_mask", "mask")
    if "mask" not in mask:
        expected.append(f"the program's input {mask} is its attention mask, whatever its name says")
    assert list(one.albert.notes) == expected


def test_outputs_that_are_left_out(case):
    assert case("torch-script/model-hidden-states").albert.left_out == {
        f"hidden_states.{depth}": "it is a hidden state" for depth in range(4)
    }
    assert case("torch-script/model-attentions").albert.left_out == {
        f"attentions.{layer}": "it is attention probabilities" for layer in range(3)
    }
    assert case("paddle3-json/question-answering").albert.left_out == {
        "fetch_name_1": "it is a linear map of hidden states"
    }
    assert case("paddle2onnx-json/question-answering-opset17").albert.left_out == {
        "fetch_name_1": "Squeeze.20 (Squeeze) does not fit: its inputs do not fit it (cannot select an axis "
        "to squeeze out which has size not equal to one)"
    }
