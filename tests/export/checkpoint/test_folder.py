"""PaddleNLP folders: weight files of every age that fit, or are told why not."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from albert_export.checkpoint.config_json import PADDLENLP, CheckpointConfig, default_labels
from albert_export.checkpoint.folder import (
    check_same_model,
    describe_variant,
    read_folder,
)
from albert_export.errors import ExportError
from albert_export.sources import checkpoint_source, random_source
from albert_runtime.artifact import tasks
from albert_runtime.artifact.tasks import Head
from albert_runtime.errors import ArtifactError

PREFIXES = ["", "transformer.", "albert."]


def test_golden_folders(golden):
    checkpoint = read_folder(golden / "model-groups")
    config = checkpoint.description.config
    assert (config.num_hidden_groups, config.inner_group_num, config.num_hidden_layers) == (2, 2, 4)
    assert (config.hidden_act, config.padding_idx, config.max_position_embeddings) == ("gelu_new", 0, 64)
    assert checkpoint.weights == golden / "model-groups" / "model_state.pdparams"
    assert checkpoint.description.library == PADDLENLP


def test_folders_that_are_no_checkpoints(tmp_path, write_checkpoint, tiny):
    with pytest.raises(ExportError, match=r"no config\.json or model_config\.json"):
        read_folder(tmp_path)
    write_checkpoint(tmp_path, tiny)
    with pytest.raises(ExportError, match=r"holds none of model_state\.pdparams, .*with --weights"):
        read_folder(tmp_path).weights_file()


def tensors_of(config, head=None, seed=3):
    generator = np.random.default_rng(seed)
    shapes = config.tensor_shapes() | (head or Head()).tensor_shapes(config)
    return {name: generator.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}


def plan(tmp_path, state, config, task=tasks.MODEL, *, labels=2, task_given=False, tied=True):
    """The plan for a .pdparams of ``state``, and its tensors."""
    path = tmp_path / "model_state.pdparams"
    path.write_bytes(pickle.dumps(state, 4))
    description = CheckpointConfig(config, PADDLENLP, None, default_labels(labels), tied)
    made = checkpoint_source(description, path, task, task_given=task_given)
    tensors, left_out = made.weights.load(made.config, made.head)
    return made, dict(tensors), left_out


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_and_spare_entries(tmp_path, tiny, tiny_tensors, prefix):
    state = {prefix + name: value for name, value in tiny_tensors.items()}
    state[prefix + "embeddings.position_ids"] = np.arange(40)[None]
    state["StructuredToParameterName@@"] = {"a": "b"}
    state["predictions.bias"] = np.zeros(60, np.float32)
    made, tensors, left_out = plan(tmp_path, state, tiny)
    assert left_out == ["predictions.bias"]
    assert (made.config, made.head, made.labels) == (tiny, Head(), None)
    assert list(tensors) == list(tiny.tensor_shapes())
    for name, value in tiny_tensors.items():
        np.testing.assert_array_equal(tensors[name], value)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("task", tasks.TASKS)
def test_every_task(tmp_path, tiny, task, prefix):
    head = Head.of(task, num_labels=3, tied_decoder=False)
    state = tensors_of(tiny, head)
    stored = {
        name if name.startswith(("predictions", "sop", "classifier", "qa")) else prefix + name: value
        for name, value in state.items()
    }
    made, tensors, left_out = plan(tmp_path, stored, tiny, task, labels=3)
    assert made.head == head
    assert list(tensors) == [*made.config.tensor_shapes(), *head.tensor_shapes(tiny)]
    for name, value in tensors.items():
        np.testing.assert_array_equal(value, state[name])
    # PaddleNLP always saves a pooler; a task that does not read it goes without.
    reads = head.reads_pooled or task == tasks.MODEL
    assert made.config.add_pooling_layer == reads
    assert left_out == ([] if reads else ["pooler.weight", "pooler.bias"])
    labelled = task in tasks.LABELLED
    assert made.labels == (("LABEL_0", "LABEL_1", "LABEL_2") if labelled else None)


WORDS, DECODER = "embeddings.word_embeddings.weight", "predictions.decoder.weight"


@pytest.mark.parametrize("task", [tasks.MASKED_LM, tasks.PRETRAINING])
def test_decoders(tmp_path, tiny, task):
    state = tensors_of(tiny, Head.of(task, tied_decoder=False))
    other = state[DECODER]
    state["predictions.decoder.bias"] = state["predictions.bias"]
    # <= 2.5.2 stored [E, V], always its own matrix.
    made, tensors, _ = plan(tmp_path, {**state, DECODER: np.ascontiguousarray(other.T)}, tiny, task)
    assert not made.head.tied_decoder
    np.testing.assert_array_equal(tensors[DECODER], other)
    # Later versions store [V, E]: the word table a second time, or a matrix of its own.
    made, tensors, _ = plan(tmp_path, state, tiny, task)
    assert not made.head.tied_decoder
    np.testing.assert_array_equal(tensors[DECODER], other)
    made, tensors, left_out = plan(tmp_path, {**state, DECODER: state[WORDS]}, tiny, task)
    assert made.head.tied_decoder
    assert DECODER not in tensors and not any("decoder" in name for name in left_out)
    assert made.head.decoder_norm_eps == 1e-5


def test_a_decoder_that_is_not_there(tmp_path, tiny):
    state = tensors_of(tiny, Head.of(tasks.PRETRAINING))
    made, _, left_out = plan(tmp_path, state, tiny, tasks.MASKED_LM)
    assert made.head.tied_decoder
    assert left_out[-2:] == ["sop_classifier.classifier.weight", "sop_classifier.classifier.bias"]
    for task, tied in ((tasks.PRETRAINING, True), (tasks.MASKED_LM, False)):
        with pytest.raises(ExportError, match=r"missing: predictions\.decoder\.weight$"):
            plan(tmp_path, state, tiny, task, tied=tied)


def test_a_square_decoder_is_todays(tmp_path, tiny):
    config = replace(tiny, vocab_size=8)
    state = tensors_of(config, Head.of(tasks.MASKED_LM, tied_decoder=False))
    _, tensors, _ = plan(tmp_path, state, config, tasks.MASKED_LM)
    np.testing.assert_array_equal(tensors[DECODER], state[DECODER])


def test_the_decoders_bias_has_two_names(tmp_path, tiny):
    state = tensors_of(tiny, Head.of(tasks.MASKED_LM))
    bias = state.pop("predictions.bias")
    _, tensors, _ = plan(tmp_path, {**state, "predictions.decoder.bias": bias}, tiny, tasks.MASKED_LM)
    np.testing.assert_array_equal(tensors["predictions.bias"], bias)
    state |= {"predictions.bias": bias + 1, "predictions.decoder.bias": bias}
    _, tensors, left_out = plan(tmp_path, state, tiny, tasks.MASKED_LM)
    np.testing.assert_array_equal(tensors["predictions.bias"], bias)
    assert left_out[-1] == "predictions.bias (predictions.decoder.bias replaces it)"


@pytest.mark.parametrize("store", [np.float16, np.float64, ">f4", "bfloat16"])
def test_other_floats_become_float32(tmp_path, tiny, tiny_tensors, store):
    state, wanted = {}, {}
    for name, value in tiny_tensors.items():
        if store == "bfloat16":  # Paddle's own, in numpy's uint16
            state[name] = (value.view(np.uint32) >> 16).astype(np.uint16)
            wanted[name] = (state[name].astype(np.uint32) << 16).view(np.float32)
        else:
            state[name] = value.astype(store)
            wanted[name] = state[name].astype(np.float32)
    _, tensors, _ = plan(tmp_path, state, tiny)
    for name, value in tensors.items():
        assert value.dtype == np.float32 and value.flags.c_contiguous
        np.testing.assert_array_equal(value, wanted[name])


def test_every_problem_is_listed(tmp_path, tiny, tiny_tensors):
    state = dict(tiny_tensors)
    del state["pooler.bias"]
    state["classifier.weight"] = np.zeros((12, 2), np.float32)
    state["pooler.weight"] = np.zeros((12, 13), np.float32)
    state["embeddings.layer_norm.bias"] = np.zeros(8, np.int64)
    state["embeddings.layer_norm.weight"] = "text"
    with pytest.raises(ExportError) as caught:
        plan(tmp_path, state, tiny)
    message = str(caught.value)
    assert "model_state.pdparams, read as PaddleNLP's weights for task model: " in message
    assert "missing: embeddings.layer_norm.weight, pooler.bias" in message
    assert "unexpected: classifier.weight, embeddings.layer_norm.weight" in message
    assert "of another shape: pooler.weight [12, 13] instead of [12, 12]" in message
    assert "of another type: embeddings.layer_norm.bias int64" in message


def test_long_lists_are_clipped(tmp_path, tiny, tiny_tensors):
    deeper = replace(tiny, num_hidden_groups=2)
    with pytest.raises(ExportError, match=r"missing: encoder\.[^;]* and 8 more$"):
        plan(tmp_path, tiny_tensors, deeper)
    wide = {f"x{i}\n\x1b[31m" + "y" * 500: np.zeros(1) for i in range(1000)}
    with pytest.raises(ExportError, match=r"and 992 more$") as caught:
        plan(tmp_path, tiny_tensors | wide, tiny)
    assert len(str(caught.value)) < 2000 and str(caught.value).isprintable()


def test_the_head_of_another_task(tmp_path, tiny):
    state = tensors_of(tiny, Head.of(tasks.SEQUENCE_CLASSIFICATION, num_labels=2))
    with pytest.raises(ExportError, match=r"unexpected: classifier\.weight, classifier\.bias"):
        plan(tmp_path, state, tiny)
    _, _, left_out = plan(tmp_path, state, tiny, task_given=True)
    assert left_out == ["classifier.weight", "classifier.bias"]
    with pytest.raises(ExportError, match=r"for task question-answering: .* missing: qa_outputs\.weight"):
        plan(tmp_path, state, tiny, tasks.QUESTION_ANSWERING, task_given=True)


@pytest.mark.parametrize("task", tasks.LABELLED)
@pytest.mark.parametrize("labels", [1, 2, 5])
def test_the_weights_tell_the_number_of_labels(tmp_path, tiny, task, labels):
    state = tensors_of(tiny, Head.of(task, num_labels=3))
    made, tensors, _ = plan(tmp_path, state, tiny, task, labels=labels)
    assert (made.head.num_labels, made.labels) == (3, default_labels(3))
    np.testing.assert_array_equal(tensors["classifier.weight"], state["classifier.weight"])
    assert made.notes == (
        f"the config has {labels} labels, the classifier 3 columns: LABEL_0, LABEL_1, LABEL_2",
    )


def test_a_tensor_under_two_names_is_refused(tmp_path, tiny, tiny_tensors):
    state = {**tiny_tensors, "albert.pooler.bias": np.zeros(12, np.float32)}
    with pytest.raises(ExportError, match=r"unexpected: albert\.pooler\.bias"):
        plan(tmp_path, state, tiny)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_no_numbers(tmp_path, tiny, tiny_tensors, value):
    state = {**tiny_tensors, "pooler.bias": np.full(12, value)}
    with pytest.raises(ArtifactError, match=r"pooler\.bias that is no finite float32 number"):
        plan(tmp_path, state, tiny)


@pytest.mark.parametrize(
    "changes",
    [
        {
            "vocab_size": 178,
            "embedding_size": 128,
            "hidden_size": 768,
            "intermediate_size": 2048,
        },  # PL-BERT's
        {"vocab_size": 200_000},  # IndicBERT's
        {"num_hidden_layers": 6, "num_hidden_groups": 3, "inner_group_num": 2},
        {"intermediate_size": 5, "embedding_size": 12, "type_vocab_size": 5},
    ],
)
def test_any_config(tmp_path, tiny, changes):
    config = replace(tiny, **changes)
    state = tensors_of(config)
    _, tensors, _ = plan(tmp_path, state, config)
    for name, value in state.items():
        np.testing.assert_array_equal(tensors[name], value)


def test_weights_of_another_model(golden):
    checkpoint = read_folder(golden / "model-gelu")
    config = checkpoint.description.config
    wanted = replace(config, hidden_act="gelu_new", initializer_range=0.5)
    with pytest.raises(ExportError, match="hidden_act 'gelu' instead of 'gelu_new'") as caught:
        check_same_model("albert-base-v2", wanted, checkpoint)
    assert "initializer_range" not in str(caught.value)
    check_same_model("x", replace(config, padding_idx=None), checkpoint)


@pytest.mark.parametrize("task", tasks.TASKS)
def test_random_weights_of_every_task(tiny, task):
    made = random_source(describe_variant(tiny, PADDLENLP), task, 7)
    tensors, left_out = made.weights.load(made.config, made.head)
    shapes = {**made.config.tensor_shapes(), **made.head.tensor_shapes(made.config)}
    assert {name: value.shape for name, value in tensors} == shapes and left_out == []
    assert ("pooler.weight" in shapes) == (made.head.reads_pooled or task == tasks.MODEL)
    assert made.labels == (("LABEL_0", "LABEL_1") if task in tasks.LABELLED else None)
    assert made.head.tied_decoder == (task == tasks.MASKED_LM)
