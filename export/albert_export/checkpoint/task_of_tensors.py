"""The task that a checkpoint's tensors show, where its config does not say or names a class of the user's."""

from collections.abc import Mapping

from albert_runtime.artifact import tasks

from ..errors import ExportError
from .config_json import HUGGING_FACE
from .tensor_names import ModelTensor


def task_of_tensors(placed: Mapping[str, ModelTensor], library: str) -> str:
    """The task whose head is there; ``placed`` has the tensors by the model's names.

    Raises:
        ExportError: Several tasks have such a head; the message names them.
    """
    names = {name.split(".", 1)[0] for name in placed}
    heads = [name for name in ("predictions", "classifier", "qa_outputs") if name in names]
    if len(heads) > 1:
        raise _open(f"it holds {' and '.join(heads)}", tasks.TASKS)
    if "qa_outputs" in names:
        return tasks.QUESTION_ANSWERING
    if "predictions" in names:
        return tasks.PRETRAINING if "sop_classifier" in names else tasks.MASKED_LM
    if "classifier" not in names:
        return tasks.MODEL
    if "pooler" not in names:
        return tasks.TOKEN_CLASSIFICATION
    weight = placed.get("classifier.weight")
    possible = [tasks.SEQUENCE_CLASSIFICATION]
    if library != HUGGING_FACE:
        possible.append(tasks.TOKEN_CLASSIFICATION)  # PaddleNLP's have a pooler that nothing reads
    if weight is not None and weight.shape[1:] == (1,):
        possible.append(tasks.MULTIPLE_CHOICE)
    if len(possible) > 1:
        raise _open("it holds a pooler and a classifier", possible)
    return possible[0]


def other_task(placed: Mapping[str, ModelTensor], library: str, task: str) -> str:
    """What to add to a refusal of tensors as those of ``task``, if they look like another one's."""
    try:
        found = task_of_tensors(placed, library)
    except ExportError:
        return ""
    pretrained = (tasks.MASKED_LM, tasks.PRETRAINING)  # the one is a part of the other
    return (
        ""
        if found == task or {found, task} <= {*pretrained}
        else f"; the tensors look like those of --task {found}"
    )


def _open(what: str, possible: list[str] | tuple[str, ...]) -> ExportError:
    return ExportError(
        f"{what}, and the config does not say of which task; give --task: {', '.join(possible)}"
    )
