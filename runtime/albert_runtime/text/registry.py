"""The text methods by name, and which one fits a model."""

from typing import Any

from ..errors import InputError
from .classification import Classify
from .embedding import Embed
from .fill_mask import FillMask
from .multiple_choice import Choose
from .question_answering import AnswerQuestion
from .task_method import TaskMethod, TextModel
from .token_classification import Tag

METHODS: dict[str, type[TaskMethod]] = {
    "classify": Classify,
    "tag": Tag,
    "answer": AnswerQuestion,
    "fill_mask": FillMask,
    "choose": Choose,
    "embed": Embed,
}


def method_of_task(task: str) -> str:
    """Name of the method that answers for models of a task."""
    return next(name for name, method in METHODS.items() if task in method.tasks)


def create_method(model: TextModel, name: str, options: dict[str, Any]) -> TaskMethod:
    """The named method for a model; InputError if it is unknown or does not fit, or for a wrong option."""
    kind = METHODS.get(name)
    if kind is None:
        raise InputError(f"method {name!r} is unknown; choose one of {', '.join(METHODS)}")
    if model.task not in kind.tasks:
        fitting = METHODS[method_of_task(model.task)].usage
        raise InputError(
            f"{name} is for {' and '.join(kind.tasks)} models; {model.name} is a {model.task} model: "
            f"use {fitting}"
        )
    for option in options:
        if option not in kind.options:
            raise InputError(f"{name} has no option {option!r}; it has {', '.join(kind.options)}")
    return kind(model, **options)
