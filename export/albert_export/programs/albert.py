"""The ALBERT of a program: config, head and tensors, and which of its inputs and outputs is which."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from albert_runtime.artifact import tasks
from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.sentence import DENSE, PREFIX
from albert_runtime.artifact.tasks import Head
from albert_runtime.errors import ArtifactError

from ..errors import ExportError
from .encoder import epsilon, linear, norm, refuse, take_encoder
from .expressions import Activation, Expression, Linear, Norm
from .grammar import Part
from .graph import Graph
from .recognise import Found, Output, recognise

_WORDS = "embeddings.word_embeddings.weight"
_POOLED = (tasks.SEQUENCE_CLASSIFICATION, tasks.MULTIPLE_CHOICE, tasks.PRETRAINING)


@dataclass(frozen=True)
class ProgramOutput:
    """An output as the program calls it.

    ``softened``: softmax or sigmoid comes after ours. ``column``: of its last axis, the one that is ours.
    """

    name: str
    softened: str | None = None
    column: int | None = None


@dataclass(frozen=True)
class Albert:
    """What a program computes.

    ``tensors``: in our names and layouts, of any float type. ``inputs``: what the program calls ours; one
    that it lacks is left out. ``outputs``: the same; ``left_out``: its other outputs, and why.
    ``pad_id``: the word that masks where no input does. ``notes``: what the user should know.
    """

    config: AlbertConfig
    head: Head
    tensors: Mapping[str, np.ndarray]
    inputs: Mapping[str, str]
    outputs: Mapping[str, ProgramOutput]
    left_out: Mapping[str, str]
    pad_id: int | None
    notes: tuple[str, ...]


def take_albert(graph: Graph, task: str | None) -> Albert:
    """The ALBERT in a graph.

    Args:
        graph: The program.
        task: The task to export for; None takes the program's own.

    Raises:
        AlbertError: There is no ALBERT, the message naming the first node that does not fit; or its weights
            are damaged.
    """
    found = recognise(graph)
    ends: dict[Part, Output] = {}
    for one in sorted(found.outputs, key=lambda one: one.softened is not None):  # rather logits
        if one.role.layer == len(found.parts.layers):
            ends.setdefault(one.role.part, one)
    task = _task(found, ends, task)
    encoder = take_encoder(
        found,
        pooled=task in _POOLED or (task == tasks.MODEL and len(found.parts.layers) in found.parts.poolers),
    )
    head = _HeadOf(found, ends, encoder.config, dict(encoder.tensors))
    head.add(task)
    for name, values in head.tensors.items():
        if not np.isfinite(values).all():
            raise ArtifactError(f"{graph.files[0]}: {name} holds a value that is no finite number")
    inputs = {
        "input_ids": found.parts.inputs[Part.WORDS],
        "attention_mask": found.mask,
        "token_type_ids": found.parts.inputs.get(Part.TYPES),
    }
    return Albert(
        head.config,
        head.head,
        head.tensors,
        {name: value for name, value in inputs.items() if value is not None},
        head.outputs,
        _left_out(found, head.outputs),
        found.pad_id,
        (*head.notes, *_notes(found, head.config)),
    )


def _task(found: Found, ends: Mapping[Part, Output], wanted: str | None) -> str:
    """The task whose head the outputs show, or the user's choice if the program can have it."""
    shown = []
    if Part.WORD_SCORES in ends:
        shown.append(tasks.PRETRAINING if Part.CLASSIFIED in ends else tasks.MASKED_LM)
    if Part.CLASSIFIED in ends:
        shown.append(tasks.MULTIPLE_CHOICE if found.probe.choices else tasks.SEQUENCE_CLASSIFICATION)
    if Part.OF_TOKENS in ends:
        columns = ends[Part.OF_TOKENS].columns
        if columns is None:
            shown.append(tasks.TOKEN_CLASSIFICATION)
        if columns is not None or ends[Part.OF_TOKENS].of.shape[-1] == len(tasks.SPAN_LOGITS):
            shown.append(tasks.QUESTION_ANSWERING)
    if wanted == tasks.MODEL or not shown:
        shown = [tasks.MODEL]
    if wanted in (None, *shown):
        return wanted or shown[0]
    raise ExportError(f"the program has the head of {' and '.join(shown)}, not of {wanted}; leave --task out")


@dataclass
class _HeadOf:
    """A program's head as it is put together; ``config`` and ``tensors`` begin as the encoder's."""

    found: Found
    ends: Mapping[Part, Output]
    config: AlbertConfig
    tensors: dict[str, np.ndarray]
    head: Head = field(default_factory=Head)
    outputs: dict[str, ProgramOutput] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, task: str) -> None:
        if task == tasks.MODEL:
            self.output(tasks.LAST_HIDDEN_STATE, Part.HIDDEN)
            self.output(tasks.POOLED_OUTPUT, Part.POOLED)
            self.vector()
        elif task in (tasks.MASKED_LM, tasks.PRETRAINING):
            self.words(task)
        elif task == tasks.QUESTION_ANSWERING:
            self.spans()
        else:
            self.classifier(task)

    def output(self, ours: str, part: Part) -> None:
        if part in self.ends:
            self.outputs[ours] = ProgramOutput(self.ends[part].name, self.ends[part].softened)

    def vector(self) -> None:
        """A text's vector, as sentence-transformers makes it."""
        end = self.ends.get(Part.VECTOR)
        if end is None or end.vector is None:
            return
        self.output(tasks.SENTENCE_EMBEDDING, Part.VECTOR)
        self.head = Head(sentence=end.vector.head)
        dense = [number for number, step in enumerate(end.vector.head.steps) if step.kind == DENSE]
        for number, of in zip(dense, end.vector.maps, strict=True):
            tensors = linear(f"{PREFIX}{number}", of)
            self.tensors |= tensors if of.bias is not None else {f"{PREFIX}{number}.weight": of.weight}

    def classifier(self, task: str) -> None:
        part = Part.OF_TOKENS if task == tasks.TOKEN_CLASSIFICATION else Part.CLASSIFIED
        of = self.ends[part].of
        assert isinstance(of, Linear)
        columns = of.weight.shape[1]
        if task == tasks.MULTIPLE_CHOICE and columns != 1:
            refuse(of.node, f"it gives {columns} numbers for each choice")
        self.output(tasks.LOGITS, part)
        self.tensors |= linear("classifier", of)
        # Perhaps another output is what makes scores of these logits.
        scores = [one.softened for one in self.found.outputs if one.of is of and one.softened is not None]
        self.head = Head.of(task, num_labels=columns, activation=next(iter(scores), None))

    def spans(self) -> None:
        """Question answering: PaddleNLP's own programs give the start scores twice."""
        of = self.ends[Part.OF_TOKENS].of
        assert isinstance(of, Linear)
        if of.weight.shape[1] != 2:
            refuse(of.node, f"one column of {of.weight.shape[1]} is given alone")
        for one in self.found.outputs:
            if one.of is of and one.columns is not None:
                self.outputs.setdefault(tasks.SPAN_LOGITS[one.columns[0]], ProgramOutput(one.name))
            elif one.of is of and one.softened is None:
                for column, ours in enumerate(tasks.SPAN_LOGITS):
                    self.outputs.setdefault(ours, ProgramOutput(one.name, column=column))
        if tasks.END_LOGITS not in self.outputs:
            self.notes.append(
                "the program gives no end scores (PaddleNLP's gives the start scores twice); the export does"
            )
        self.tensors |= linear("qa_outputs", of)
        self.head = Head.of(tasks.QUESTION_ANSWERING)

    def words(self, task: str) -> None:
        decoder, of_norm, activation, dense = _chain(self.ends[Part.WORD_SCORES].of)
        if activation.name != self.config.hidden_act:
            refuse(activation.node, f"{activation.name} in the head, {self.config.hidden_act} in the layers")
        if decoder.weight.shape != (self.config.embedding_size, self.config.vocab_size):
            refuse(decoder.node, f"its matrix is {list(decoder.weight.shape)}, no decoder of its words")
        self.output(tasks.PREDICTION_SCORES, Part.WORD_SCORES)
        self.tensors["predictions.bias"] = linear("", decoder)[".bias"]
        self.tensors |= norm("predictions.layer_norm", of_norm) | linear("predictions.dense", dense)
        tied = self.tie(decoder.weight.T)
        if not tied:
            self.tensors["predictions.decoder.weight"] = decoder.weight.T
        if task == tasks.PRETRAINING:
            classifier = self.ends[Part.CLASSIFIED].of
            assert isinstance(classifier, Linear)
            if classifier.weight.shape[1] != 2:
                refuse(classifier.node, "it is no choice between two orders of sentences")
            self.output(tasks.SOP_LOGITS, Part.CLASSIFIED)
            self.tensors |= linear("sop_classifier.classifier", classifier)
        self.head = Head.of(task, tied_decoder=tied, decoder_norm_eps=epsilon(of_norm))

    def tie(self, decoder: np.ndarray) -> bool:
        """Whether the decoder [V, E] is the word table, of which one row may be looked up as zeros."""
        words = self.tensors[_WORDS]
        rows = np.flatnonzero((words != decoder).any(axis=1))
        if len(rows) == 1 and not words[rows].any() and self.config.padding_idx in (None, int(rows[0])):
            self.tensors[_WORDS] = decoder
            self.config = replace(self.config, padding_idx=int(rows[0]), pad_token_id=int(rows[0]))
            return True
        return len(rows) == 0


def _chain(of: Expression) -> tuple[Linear, Norm, Activation, Linear]:
    """The parts of a masked-LM head, from its scores back."""
    assert isinstance(of, Linear)
    of_norm = of.x.of
    assert isinstance(of_norm, Norm)
    activation = of_norm.x.of
    assert isinstance(activation, Activation) and isinstance(activation.x, Linear)
    return of, of_norm, activation, activation.x


def _notes(found: Found, config: AlbertConfig) -> list[str]:
    """What differs between the program and the export."""
    notes = []
    layers = config.num_hidden_layers
    if layers > 1 and config.num_hidden_groups == layers:
        notes.append(
            f"no two of the program's {layers} layers share weights, so the export has {layers} groups"
        )
    if found.parts.inputs.get(Part.TYPES) is None:
        notes.append("the program has no token_type_ids: every token has type 0 in it")
    if found.mask is None and found.pad_id is None:
        notes.append("the program masks nothing; the export takes attention_mask")
    elif found.mask is None:
        notes.append(f"the program masks word {found.pad_id}; the export takes attention_mask")
    elif "mask" not in found.mask.lower():
        notes.append(f"the program's input {found.mask} is its attention mask, whatever its name says")
    position = found.parts.inputs.get(Part.POSITIONS)
    if position is not None:
        notes.append(f"the program's input {position} is left out: positions count from 0")
    unused = [name for name in found.unused if name != position]
    if unused:
        notes.append(f"the program makes no use of its input {' and '.join(unused)}")
    return notes


def _left_out(found: Found, outputs: Mapping[str, ProgramOutput]) -> dict[str, str]:
    """The program's outputs that the export does not have, and why."""
    taken = {one.name for one in outputs.values()}
    others = {
        one.name: f"it is {f'{one.softened} of ' if one.softened else ''}{one.role}"
        for one in found.outputs
        if one.name not in taken
    }
    return {**others, **found.left_out}
