"""What a config says of a classifier's columns: their names, and what makes scores of them."""

import numpy as np
import pytest

from albert_export.checkpoint.config_json import HUGGING_FACE, parse_config
from albert_export.checkpoint.folder import read_folder
from albert_export.checkpoint.labels import fit_labels, stated_activation
from albert_export.sources import checkpoint_source
from albert_runtime.artifact import tasks
from albert_runtime.errors import ArtifactError

from .test_huggingface import edit_config, make

IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"


@pytest.mark.parametrize(
    ("names", "columns", "labels"),
    [
        (("a", "b"), 2, ("a", "b")),
        (("a", "b"), 4, ("a", "b", "LABEL_2", "LABEL_3")),
        (("a", "b", "c"), 1, ("a",)),
    ],
)
def test_names_where_they_fit(names, columns, labels):
    assert fit_labels(names, columns) == labels


@pytest.mark.parametrize("task", tasks.LABELLED)
@pytest.mark.parametrize(
    ("changes", "labels", "noted"),
    [
        ({"num_labels": 5, "id2label": {"0": "a", "1": "b", "2": "c"}}, ("a", "b", "c"), "(num_labels 5)"),
        ({"num_labels": 3, "id2label": {"0": "a", "1": "b"}}, ("a", "b", "LABEL_2"), "has 2 labels"),
        ({"id2label": {str(i): f"n{i}" for i in range(7)}}, ("n0", "n1", "n2"), "has 7 labels"),
        ({"id2label": None, "label2id": None}, ("LABEL_0", "LABEL_1", "LABEL_2"), "has 2 labels"),
        ({"id2label": {"0": "x", "1": "x", "2": "x"}, "label2id": {"x": 2}}, ("x", "x", "x"), None),
    ],
)
def test_a_checkpoint_whose_config_has_other_labels(tmp_path, task, changes, labels, noted):
    """transformers refuses most of these, whose tensors are sound: the tensors decide."""
    make(task).save_pretrained(tmp_path)
    edit_config(tmp_path, **changes)
    checkpoint = read_folder(tmp_path)
    made = checkpoint_source(checkpoint.description, checkpoint.weights_file(), task, task_given=False)
    assert made.labels == labels and made.head.num_labels == 3
    assert len(made.notes) == (noted is not None)
    assert noted is None or noted in made.notes[0]


def pipelines_function(columns, **said):
    """The function that transformers' pipeline applies, by its own code, to logits 2, 1, 0..."""
    torch = pytest.importorskip("torch")
    pipelines = pytest.importorskip("transformers").pipelines.text_classification
    config = pytest.importorskip("transformers").AlbertConfig(num_labels=columns, **said)
    pipe = object.__new__(pipelines.TextClassificationPipeline)
    pipe.model, pipe.framework = type("Model", (), {"config": config})(), "pt"
    logits = torch.arange(columns, 0, -1)[None]
    found = [row["score"] for row in pipe.postprocess({"logits": logits}, top_k=None, _legacy=False)]
    if np.allclose(found, logits[0].numpy()):
        return tasks.NONE
    return tasks.SOFTMAX if columns > 1 and np.isclose(sum(found), 1) else tasks.SIGMOID


@pytest.mark.parametrize(
    "problem", ["regression", "single_label_classification", "multi_label_classification"]
)
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_the_activation_is_that_of_transformers_pipeline(columns, problem):
    activation, note = stated_activation({"problem_type": problem}, columns)
    head = tasks.Head.of(
        tasks.SEQUENCE_CLASSIFICATION,
        num_labels=columns,
        multi_label=problem == "multi_label_classification",
        activation=activation,
    )
    assert head.score_activation == pipelines_function(columns, problem_type=problem)
    assert note is None


def test_one_column_and_no_word_of_an_activation():
    """transformers' pipeline gives a sigmoid, PaddleNLP the logit: the logit, and the user is told."""
    activation, note = stated_activation({}, 1)
    assert activation is None and "activation='sigmoid'" in note
    assert pipelines_function(1) == tasks.SIGMOID
    assert stated_activation({}, 2) == (None, None)


@pytest.mark.parametrize(
    ("columns", "said", "activation"),
    [
        (1, {"sentence_transformers": {"activation_fn": SIGMOID, "version": "5.0"}}, tasks.SIGMOID),
        (1, {"sentence_transformers": {"activation_fn": IDENTITY}}, tasks.NONE),
        (1, {"sbert_ce_default_activation_function": IDENTITY}, tasks.NONE),
        (1, {"sbert_ce_default_activation_function": SIGMOID, "problem_type": "regression"}, tasks.SIGMOID),
        # CrossEncoder reads the newer of the two.
        (
            1,
            {
                "sentence_transformers": {"activation_fn": SIGMOID},
                "sbert_ce_default_activation_function": IDENTITY,
            },
            tasks.SIGMOID,
        ),
        (3, {"sentence_transformers": {"activation_fn": SIGMOID}}, tasks.SIGMOID),
        (3, {"sentence_transformers": {"activation_fn": IDENTITY}}, None),
    ],
)
def test_the_activation_that_sentence_transformers_keeps(columns, said, activation):
    said = parse_config(said, HUGGING_FACE).said
    assert stated_activation(said, columns) == (activation, None)


@pytest.mark.parametrize("name", ["torch.nn.modules.activation.Tanh", "mine.Sigmoid"])
def test_an_activation_of_no_kind_that_there_is(name):
    activation, note = stated_activation({"sbert_ce_default_activation_function": name}, 1)
    assert activation == tasks.NONE and name in note and "classify(..., activation=)" in note
    with pytest.raises(ArtifactError, match="must be a name"):
        stated_activation({"sbert_ce_default_activation_function": [name]}, 1)
