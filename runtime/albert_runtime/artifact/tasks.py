"""The one table of tasks, and the names of all inputs and outputs: what a head adds, what the model returns.

Names and shapes are PaddleNLP's; matrices are [in, out] as Paddle stores them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ..errors import ArtifactError
from .config import AlbertConfig

MODEL, MASKED_LM, PRETRAINING = "model", "masked-lm", "pretraining"
SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION = "sequence-classification", "token-classification"
QUESTION_ANSWERING, MULTIPLE_CHOICE = "question-answering", "multiple-choice"

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
LAST_HIDDEN_STATE, POOLED_OUTPUT, HIDDEN_STATES = "last_hidden_state", "pooled_output", "hidden_states"
LOGITS, PREDICTION_SCORES, SOP_LOGITS = "logits", "prediction_scores", "sop_logits"
START_LOGITS, END_LOGITS = SPAN_LOGITS = ("start_logits", "end_logits")

_OUTPUTS: dict[str, tuple[str, ...]] = {
    MODEL: (LAST_HIDDEN_STATE, POOLED_OUTPUT),
    MASKED_LM: (PREDICTION_SCORES,),
    SEQUENCE_CLASSIFICATION: (LOGITS,),
    TOKEN_CLASSIFICATION: (LOGITS,),
    QUESTION_ANSWERING: SPAN_LOGITS,
    MULTIPLE_CHOICE: (LOGITS,),
    PRETRAINING: (PREDICTION_SCORES, SOP_LOGITS),
}
TASKS = tuple(_OUTPUTS)
# Tasks whose labels are the user's own; the others have a fixed number of columns.
LABELLED = (SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION)
_FIXED_COLUMNS = {QUESTION_ANSWERING: 2, MULTIPLE_CHOICE: 1, PRETRAINING: 2}
_MAX_LABELS = 1 << 20
_READS_POOLED = (SEQUENCE_CLASSIFICATION, MULTIPLE_CHOICE, PRETRAINING)
_READS_VOCABULARY = (MASKED_LM, PRETRAINING)
_PER_TOKEN = (LAST_HIDDEN_STATE, PREDICTION_SCORES, *SPAN_LOGITS, HIDDEN_STATES)
# Fields of a head that came later: a manifest without them is read as before.
_WRITTEN_IF_TRUE = ("multi_label", HIDDEN_STATES, "activation")
# What turns the logits of a sequence classification into scores; none: they are the scores.
NONE, SIGMOID, SOFTMAX = ACTIVATIONS = ("none", "sigmoid", "softmax")
# start_logits and end_logits of masked positions: after a softmax their probability is 0.
MASKED_SPAN_LOGIT = -10000.0


@dataclass(frozen=True, slots=True)
class Head:
    """What a task adds to the encoder.

    ``num_labels``: columns of the classifier (0 where the task has none). ``tied_decoder``: the masked-LM
    decoder is the word embedding table itself. ``decoder_norm_eps``: epsilon of the masked-LM head's
    LayerNorm, 1e-5 in PaddleNLP whatever the config says, the config's in Hugging Face. ``multi_label``: each
    label of a sequence classification stands or falls by itself, so that its score is a sigmoid.
    ``hidden_states``: the model also returns the state after every layer, [B, T, L + 1, H], the embeddings
    mapped to H first; multiple choice, which has no outputs per token, cannot. ``activation``: what the
    checkpoint says makes scores of a sequence classification's logits, one of ``ACTIVATIONS``; None: it does
    not say, see ``score_activation``.
    """

    task: str = MODEL
    num_labels: int = 0
    tied_decoder: bool = False
    decoder_norm_eps: float = 1e-5
    multi_label: bool = False
    hidden_states: bool = False
    activation: str | None = None

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ArtifactError(f"task {self.task!r} is unknown; known are {', '.join(TASKS)}")
        low, high = (1, _MAX_LABELS) if self.task in LABELLED else (0, 0)
        fixed = _FIXED_COLUMNS.get(self.task)
        low, high = (low, high) if fixed is None else (fixed, fixed)
        if isinstance(self.num_labels, bool) or not isinstance(self.num_labels, int):
            raise ArtifactError(f"num_labels must be a whole number, not {self.num_labels!r}")
        if not low <= self.num_labels <= high:
            raise ArtifactError(
                f"num_labels of {self.task} must lie between {low} and {high}, not {self.num_labels}"
            )
        if not isinstance(self.tied_decoder, bool) or (self.tied_decoder and not self.reads_vocabulary):
            raise ArtifactError(
                f"tied_decoder of {self.task} must be false, or the task one of {_READS_VOCABULARY}"
            )
        eps = self.decoder_norm_eps
        if isinstance(eps, bool) or not isinstance(eps, float) or not 0 < eps < 1:
            raise ArtifactError(f"decoder_norm_eps must lie between 0 and 1, not {eps!r}")
        if self.multi_label is not False and (
            self.multi_label is not True or self.task != SEQUENCE_CLASSIFICATION
        ):
            raise ArtifactError(f"multi_label must be false, or true for {SEQUENCE_CLASSIFICATION}")
        if self.hidden_states is not False and (
            self.hidden_states is not True or self.task == MULTIPLE_CHOICE
        ):
            raise ArtifactError(f"hidden_states must be false, or true and the task not {MULTIPLE_CHOICE}")
        if self.activation is not None and (
            self.activation not in ACTIVATIONS or self.task != SEQUENCE_CLASSIFICATION
        ):
            raise ArtifactError(
                f"activation must be null, or one of {', '.join(ACTIVATIONS)} for {SEQUENCE_CLASSIFICATION}"
            )

    @classmethod
    def of(
        cls,
        task: str,
        *,
        num_labels: int = 0,
        tied_decoder: bool = True,
        decoder_norm_eps: float = 1e-5,
        multi_label: bool = False,
        activation: str | None = None,
    ) -> "Head":
        """The head of a task; options that it has no use for are ignored."""
        columns = num_labels if task in LABELLED else _FIXED_COLUMNS.get(task, 0)
        return cls(
            task,
            columns,
            tied_decoder and task in _READS_VOCABULARY,
            decoder_norm_eps,
            multi_label and task == SEQUENCE_CLASSIFICATION,
            activation=activation if task == SEQUENCE_CLASSIFICATION else None,
        )

    @classmethod
    def from_dict(cls, mapping: Mapping[str, object]) -> "Head":
        """Build from a mapping of exactly the fields; ArtifactError names what is wrong.

        Those of ``_WRITTEN_IF_TRUE`` may be left out.
        """
        names = ("task", "num_labels", "tied_decoder", "decoder_norm_eps")
        if sorted(mapping.keys() - set(_WRITTEN_IF_TRUE)) != sorted(names):
            known = f"{', '.join(names)}, and may have {' and '.join(_WRITTEN_IF_TRUE)}"
            raise ArtifactError(f"head must have exactly the fields {known}")
        return cls(**mapping)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, object]:
        """All fields by name, ready for JSON."""
        return {name: value for name, value in asdict(self).items() if value or name not in _WRITTEN_IF_TRUE}

    @property
    def score_activation(self) -> str:
        """What makes scores of a sequence classification's logits.

        Where the checkpoint did not say: a sigmoid for ``multi_label``, nothing for one column (of a model
        trained by regression, and a softmax of one value is always 1), else a softmax.
        """
        if self.activation is not None:
            return self.activation
        if self.multi_label:
            return SIGMOID
        return NONE if self.num_labels == 1 else SOFTMAX

    @property
    def reads_pooled(self) -> bool:
        """Whether the head reads the pooled output, so that the model needs its pooler."""
        return self.task in _READS_POOLED

    @property
    def reads_vocabulary(self) -> bool:
        """Whether the model scores the vocabulary."""
        return self.task in _READS_VOCABULARY

    def is_per_token(self, output: str) -> bool:
        """Whether an output has a value for every token, [B, T, ...], rather than one for every row."""
        return output in _PER_TOKEN or (output == LOGITS and self.task == TOKEN_CLASSIFICATION)

    def outputs(self, config: AlbertConfig) -> tuple[str, ...]:
        """Names of the outputs, in the program's order."""
        names = _OUTPUTS[self.task]
        if self.task == MODEL and not config.add_pooling_layer:
            names = names[:1]
        return (*names, HIDDEN_STATES) if self.hidden_states else names

    def tensor_shapes(self, config: AlbertConfig) -> dict[str, tuple[int, ...]]:
        """The tensors that the head adds to ``config.tensor_shapes()``, in model order."""
        hidden, embedding, vocabulary = config.hidden_size, config.embedding_size, config.vocab_size
        shapes: dict[str, tuple[int, ...]] = {}
        if self.reads_vocabulary:
            shapes["predictions.bias"] = (vocabulary,)
            shapes["predictions.layer_norm.weight"] = (embedding,)
            shapes["predictions.layer_norm.bias"] = (embedding,)
            shapes["predictions.dense.weight"] = (hidden, embedding)
            shapes["predictions.dense.bias"] = (embedding,)
            if not self.tied_decoder:
                shapes["predictions.decoder.weight"] = (vocabulary, embedding)
        name = self.classifier
        if name:
            shapes[f"{name}.weight"] = (hidden, self.num_labels)
            shapes[f"{name}.bias"] = (self.num_labels,)
        return shapes

    @property
    def classifier(self) -> str:
        """Name of the linear map from H to ``num_labels`` columns, empty where the task has none."""
        if self.task == PRETRAINING:
            return "sop_classifier.classifier"
        if self.task == QUESTION_ANSWERING:
            return "qa_outputs"
        return "classifier" if self.num_labels else ""
