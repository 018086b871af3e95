"""The labels and the activation that a config gives to a classifier's columns."""

from collections.abc import Mapping

from albert_runtime.artifact.tasks import NONE, SIGMOID, SOFTMAX
from albert_runtime.errors import ArtifactError

DEFAULT_COUNT = 2
MAX_LABELS = 1 << 20

MULTI_LABEL, REGRESSION, SINGLE_LABEL = (
    "multi_label_classification",
    "regression",
    "single_label_classification",
)
# Of torch.nn, by the last part of the name, as sentence-transformers writes it.
_ACTIVATIONS = {"Identity": NONE, "Sigmoid": SIGMOID, "Softmax": SOFTMAX}


def default_labels(count: int = DEFAULT_COUNT, first: int = 0) -> tuple[str, ...]:
    """LABEL_0 and so on, or the ``count`` names from LABEL_``first`` on."""
    return tuple(f"LABEL_{index}" for index in range(first, first + count))


def label_count(values: Mapping[str, object], given: int | None = None) -> int | None:
    """The number of labels that a config states beside any names; ArtifactError for one out of range."""
    count = given
    if given is not None and not 1 <= given <= MAX_LABELS:
        raise ArtifactError(f"the number of classes must lie between 1 and {MAX_LABELS}")
    for field in ("num_labels", "num_classes"):
        said = values.get(field)
        if said is None:
            continue
        if type(said) is not int or not 1 <= said <= MAX_LABELS:
            raise ArtifactError(f"{field} must be a whole number from 1 to {MAX_LABELS}")
        count = said
    return count


def column_names(values: Mapping[str, object]) -> tuple[str, ...] | None:
    """One name per column up to the last that id2label, else label2id, names; None if neither is there.

    A column that they pass over, or that label2id gives two names, is LABEL_i. ArtifactError for what are no
    numbers and names.
    """
    by_id, by_label = values.get("id2label"), values.get("label2id")
    names: dict[int, str] = {}
    if by_id is not None:
        if not isinstance(by_id, dict):
            raise ArtifactError("id2label is not an object of numbers and names")
        if not by_id:
            raise ArtifactError("id2label is empty")
        for number, name in by_id.items():
            column = _column(number, "id2label")
            if name is not None:
                names[column] = _name(name)
    elif by_label is not None:
        if not isinstance(by_label, dict):
            raise ArtifactError("label2id is not an object of names and numbers")
        twice = set()
        for name, number in by_label.items():
            column = _column(number, "label2id")
            twice |= {column} & names.keys()
            names[column] = _name(name)
        names = {column: name for column, name in names.items() if column not in twice}
    if not names:
        return None
    return tuple(names.get(column, f"LABEL_{column}") for column in range(max(names) + 1))


def fit_labels(names: tuple[str, ...], columns: int) -> tuple[str, ...]:
    """A name for each of a classifier's columns: those that fit, LABEL_i elsewhere."""
    return names[:columns] + default_labels(max(0, columns - len(names)), first=len(names))


def stated_activation(values: Mapping[str, object], columns: int) -> tuple[str | None, str | None]:
    """What makes scores of logits [columns], as far as the config says, and a note on what it cannot have.

    The activation is one of tasks.ACTIVATIONS, None if the config does not say. sentence-transformers' own
    word counts; but with several columns Identity is merely its default, and transformers' pipeline gives a
    softmax.
    """
    named = _named_activation(values)
    if named is not None:
        activation = _ACTIVATIONS.get(named.rsplit(".", 1)[-1]) if named.startswith("torch.") else None
        if activation is None:
            return NONE, (
                f"the config's activation {named!r:.80} is none of torch's {', '.join(_ACTIVATIONS)}: scores "
                "are the logits; apply it to them, or name another with classify(..., activation=)"
            )
        if activation != NONE or columns == 1:
            return activation, None
    problem = values.get("problem_type")
    if problem == REGRESSION:
        return NONE, None
    if problem == SINGLE_LABEL and columns == 1:
        return SIGMOID, None  # as transformers' pipeline does
    if columns == 1 and problem is None:
        return None, (
            "one column, and the config names no activation: scores are the logits "
            "(classify(..., activation='sigmoid') gives what transformers' pipeline does)"
        )
    return None, None


def _named_activation(values: Mapping[str, object]) -> str | None:
    settings = values.get("sentence_transformers")
    newer = settings.get("activation_fn") if isinstance(settings, dict) else None
    named = newer if newer is not None else values.get("sbert_ce_default_activation_function")
    if named is not None and not isinstance(named, str):
        raise ArtifactError(f"the activation function must be a name, not {named!r:.40}")
    return named


def _column(number: object, field: str) -> int:
    if isinstance(number, str) and number.isascii() and number.isdigit() and len(number) < 10:
        number = int(number)
    if type(number) is not int or not 0 <= number < MAX_LABELS:
        raise ArtifactError(f"{field} does not number its labels from 0 on: it has {number!r:.40}")
    return number


def _name(name: object) -> str:
    if not isinstance(name, str | int | float):
        raise ArtifactError(f"id2label or label2id has a label that is no text: {name!r:.40}")
    text = str(name)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ArtifactError("id2label or label2id holds a lone surrogate, which is no text")
    return text
