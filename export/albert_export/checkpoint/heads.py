"""The head of a checkpoint: what its config says, fitted to its tensors, with notes where the two differ."""

from albert_runtime.artifact import tasks
from albert_runtime.artifact.tasks import Head

from .config_json import PADDLENLP, PADDLENLP_DECODER_NORM_EPS, CheckpointConfig
from .labels import MAX_LABELS, fit_labels, stated_activation
from .stored_tensor import shown
from .tensor_names import ModelTensor


def head_of(
    description: CheckpointConfig, task: str, labels: tuple[str, ...] | None, *, tied: bool
) -> tuple[Head, tuple[str, ...]]:
    """The head of a task with these labels, and a note if the config's activation is none of ours."""
    eps = PADDLENLP_DECODER_NORM_EPS
    if description.library != PADDLENLP:
        eps = description.config.layer_norm_eps
    columns = len(labels or ())
    activation, note = None, None
    if task == tasks.SEQUENCE_CLASSIFICATION:
        activation, note = stated_activation(description.said, columns)
    head = Head.of(
        task,
        num_labels=columns,
        tied_decoder=tied,
        decoder_norm_eps=eps,
        multi_label=description.multi_label,
        activation=activation,
    )
    return head, () if note is None else (note,)


def labels_of(
    description: CheckpointConfig, task: str, placed: dict[str, ModelTensor]
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """One label for each column of the weights, None for a task without, and a note if others are said."""
    classifier = placed.get("classifier.weight")
    if task not in tasks.LABELLED:
        return None, ()
    if classifier is None or len(classifier.shape) != 2 or not 1 <= classifier.shape[1] <= MAX_LABELS:
        return description.labels, ()  # that such a classifier does not fit is told with the other tensors
    columns, names, said = classifier.shape[1], description.labels, description.said.get("num_labels")
    labels = fit_labels(names, columns)
    if len(names) == columns and said in (None, columns):
        return labels, ()
    stated = f" (num_labels {said})" if said is not None else ""
    listed = shown(", ".join(labels), 120)
    return labels, (
        f"the config has {len(names)} labels{stated}, the classifier {columns} columns, which are: {listed}",
    )
