"""The task heads in paddle.nn: PaddleNLP's arithmetic over the encoder's outputs, one class per task.

Every class is called with int64 input_ids, attention_mask and token_type_ids and returns its outputs as a
tuple, in the order of the one table of tasks. Import this module only where paddle may be imported.
"""

# paddle has no types that mypy could follow, so its Layer is Any.
# mypy: disable-error-code="misc, no-any-return"

import paddle
from paddle import Tensor, nn

from albert_runtime.artifact import tasks
from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.tasks import Head

from .model import ACTIVATIONS, AlbertModel, LayerNorm, Mixed, Table, linear, named
from .sentence import SentenceEmbedding


class VocabularyHead(Mixed):
    """Scores of the vocabulary: [B, S, H] to [B, S, V]."""

    def __init__(self, config: AlbertConfig, head: Head) -> None:
        super().__init__()
        rows, columns = config.vocab_size, config.embedding_size
        self.activation = ACTIVATIONS[config.hidden_act]
        self.dense = linear(config.hidden_size, columns, "predictions.dense")
        self.layer_norm = LayerNorm(columns, head.decoder_norm_eps, "predictions.layer_norm")
        self.decoder = None if head.tied_decoder else Table(rows, columns, "predictions.decoder")
        self.bias = self.create_parameter([rows], attr=named("predictions.bias"), is_bias=True)

    def forward(self, hidden: Tensor, words: Tensor) -> Tensor:
        """``words`` [V, E] is the stored word table, which a tied decoder reads as it is, row 0 included."""
        active = self.activation(self.widened(self.dense(self.narrowed(hidden))))
        features = self.narrowed(self.layer_norm(active))
        decoder = words if self.decoder is None else self.decoder.weight
        return self.widened(paddle.matmul(features, decoder, transpose_y=True) + self.bias)


class TaskModel(Mixed):
    """The encoder and what a task adds to it; a task's class says how its outputs come about."""

    def __init__(self, config: AlbertConfig, head: Head) -> None:
        super().__init__()
        self.albert = AlbertModel(config, hidden_states=head.hidden_states)
        if head.classifier:
            self.classifier = linear(config.hidden_size, head.num_labels, head.classifier)
        if head.reads_vocabulary:
            self.predictions = VocabularyHead(config, head)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> tuple[Tensor, ...]:
        """int64 [B, S] each to the task's outputs, and the hidden states if they are among them."""
        encoded = self.albert(input_ids, attention_mask, token_type_ids)
        if not self.albert.hidden_states:
            return self.outputs(*encoded)
        return *self.outputs(*encoded[:-1]), encoded[-1]

    def outputs(self, hidden: Tensor, pooled: Tensor | None = None) -> tuple[Tensor, ...]:
        """The outputs from [B, S, H] and, for a task that reads it, the pooled [B, H]."""
        raise NotImplementedError

    def classes(self, x: Tensor) -> Tensor:
        """[..., H] to [..., labels]."""
        return self.widened(self.classifier(self.narrowed(x)))

    def scores(self, hidden: Tensor) -> Tensor:
        """[B, S, H] to [B, S, V]."""
        return self.predictions(hidden, self.albert.embeddings.word_embeddings.weight)


class MaskedLM(TaskModel):
    """prediction_scores [B, S, V]."""

    def outputs(self, hidden: Tensor, pooled: Tensor | None = None) -> tuple[Tensor, ...]:
        return (self.scores(hidden),)


class Pretraining(TaskModel):
    """prediction_scores [B, S, V], sop_logits [B, 2]."""

    def outputs(self, hidden: Tensor, pooled: Tensor | None = None) -> tuple[Tensor, ...]:
        return self.scores(hidden), self.classes(pooled)


class SequenceClassification(TaskModel):
    """logits [B, labels]."""

    def outputs(self, hidden: Tensor, pooled: Tensor | None = None) -> tuple[Tensor, ...]:
        return (self.classes(pooled),)


class TokenClassification(TaskModel):
    """logits [B, S, labels]."""

    def outputs(self, hidden: Tensor, pooled: Tensor | None = None) -> tuple[Tensor, ...]:
        return (self.classes(hidden),)


class QuestionAnswering(TaskModel):
    """start_logits [B, S], end_logits [B, S]."""

    def outputs(self, hidden: Tensor, pooled: Tensor | None = None) -> tuple[Tensor, ...]:
        # PaddleNLP's own class returns the first column twice.
        logits = self.classes(hidden)
        return logits[:, :, 0], logits[:, :, 1]


class MultipleChoice(SequenceClassification):
    """logits [B, choices]."""

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> tuple[Tensor, ...]:
        """int64 [B, choices, S] each; every choice runs as a row of its own."""
        flat = [values.flatten(0, 1) for values in (input_ids, attention_mask, token_type_ids)]
        (logits,) = self.outputs(*self.albert(*flat))
        return (logits.reshape([-1, input_ids.shape[1]]),)


_CLASSES: dict[str, type[TaskModel]] = {
    tasks.MASKED_LM: MaskedLM,
    tasks.PRETRAINING: Pretraining,
    tasks.SEQUENCE_CLASSIFICATION: SequenceClassification,
    tasks.TOKEN_CLASSIFICATION: TokenClassification,
    tasks.QUESTION_ANSWERING: QuestionAnswering,
    tasks.MULTIPLE_CHOICE: MultipleChoice,
}


def build(config: AlbertConfig, head: Head) -> nn.Layer:
    """The model for a task, for inference only, its parameters still empty."""
    if head.task == tasks.MODEL:
        sentence = None if head.sentence is None else SentenceEmbedding(head.sentence)
        model = AlbertModel(config, hidden_states=head.hidden_states, sentence=sentence)
    else:
        model = _CLASSES[head.task](config, head)
    model.eval()
    return model
