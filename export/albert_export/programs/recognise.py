"""Finds the ALBERT in a graph: which expressions are its parts, which inputs and outputs are its own."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..checkpoint.stored_tensor import shown
from ..errors import ExportError
from .dependence import Dependence
from .expressions import (
    Activation,
    Expression,
    Linear,
    Lookup,
    NotFitting,
    Scores,
    Softmax,
    Value,
)
from .grammar import Part, Parts, Role, inputs_of
from .graph import Graph, Node
from .interpreter import Traced, Unknown, interpret
from .pooling import Greatest, Kept, Weighted, WeightedSum
from .probe import Probe, make_probe
from .sentence import Vector

_MAX_PADS = 8
# What a mask goes into.
_MASKED = (Scores, Weighted, WeightedSum, Kept, Greatest)
# What a whole ALBERT gives.
_OUTPUTS = (Part.HIDDEN, Part.POOLED, Part.CLASSIFIED, Part.OF_TOKENS, Part.WORD_SCORES, Part.VECTOR)


@dataclass(frozen=True)
class Output:
    """An output of the program that is one of an ALBERT's: its name there, and what it is here.

    ``columns``: of a linear map, those that it gives; None for all. ``softened``: softmax or sigmoid comes
    after it. ``vector``: how a text's vector is made.
    """

    name: str
    role: Role
    of: Expression
    columns: tuple[int, ...] | None
    softened: str | None = None
    vector: Vector | None = None


@dataclass(frozen=True)
class Found:
    """An ALBERT in a graph.

    ``mask``: the input that masks; ``pad_id``: the word that does where there is no such input. ``outputs``
    that are none of an ALBERT's heads', such as attentions, are in ``left_out``, with the reason.
    """

    parts: Parts
    probe: Probe
    outputs: tuple[Output, ...]
    left_out: Mapping[str, str]
    mask: str | None
    pad_id: int | None
    unused: tuple[str, ...] = ()

    @property
    def knows(self) -> tuple[bool, bool]:
        """Whether it is known what the program masks, and which word it looks up as zeros."""
        masks = self.mask is not None or self.pad_id is not None
        return masks, self.parts.tables[Part.WORDS].padding_idx is not None


def recognise(graph: Graph) -> Found:
    """The ALBERT in a graph. Raises ExportError naming the first node that does not fit."""
    with np.errstate(all="ignore"):  # whatever an unknown program divides by
        found, dependence = _recognise(graph, make_probe(graph), (0, 1))
        # Words that it treats as padding, by a mask or a row of zeros, show it only if they are there.
        words = str(found.parts.inputs[Part.WORDS])
        size = len(found.parts.tables[Part.WORDS].table)
        pads = [number for number in dependence.numbers_beside(words) if 0 <= number < size]
        for pad in pads[:_MAX_PADS]:
            pair = pad, (pad + 1) % size
            with contextlib.suppress(ExportError):  # a number that is no word
                other, its = _recognise(graph, make_probe(graph, pair, words), pair)
                found, dependence = max((found, dependence), (other, its), key=lambda one: one[0].knows)
        _check_words(found, dependence, words)
        if found.pad_id is not None:
            near = {number + step for number in pads[:_MAX_PADS] for step in (-1, 0, 1)} - {found.pad_id}
            _check_pad(graph, found, [number for number in sorted(near) if 0 <= number < size])
    return found


def _check_words(found: Found, dependence: Dependence, words: str) -> None:
    """Refuse a program that does more with its words than look them up, or mask one of them."""
    for taken in dependence.taken:
        inputs = dependence.inputs[taken.name]
        if words not in inputs or id(taken.made) not in found.parts.roles:
            continue
        is_looked_up = isinstance(taken.made, Lookup) and (
            dependence.is_input(taken.name, words) or taken.made.padding_idx is not None
        )
        is_mask = isinstance(taken.made, _MASKED) and found.pad_id is not None and inputs == {words}
        if not is_looked_up and not is_mask:
            raise ExportError(
                f"it is no ALBERT that we know: {taken.node} does not fit: its result depends on which words "
                "they are, beside their embeddings"
            )


def _check_pad(graph: Graph, found: Found, others: Sequence[int]) -> None:
    """Refuse a program that masks one of the words ``others`` as it does its pad."""
    assert found.pad_id is not None
    for other in others:
        pair, its = (found.pad_id, other), None
        with contextlib.suppress(ExportError):  # its mask keeps no word of this pair, or another one
            its, _ = _recognise(graph, make_probe(graph, pair, str(found.parts.inputs[Part.WORDS])), pair)
        if its is None or its.pad_id != found.pad_id:
            raise ExportError(
                f"it is no ALBERT that we know: {found.parts.masks[0][0].node} does not fit: it masks word "
                f"{other} beside word {found.pad_id}"
            )


def _recognise(graph: Graph, probe: Probe, words: tuple[int, int]) -> tuple[Found, Dependence]:
    traced, dependence = interpret(graph, probe.feeds)
    place = {id(node): number for number, node in enumerate(graph.nodes)}
    parts = Parts(probe)
    failures: dict[str, tuple[Node, str]] = {}
    outputs = []
    expressions, ends = _expressions(traced, failures)
    wrong: dict[int, tuple[Node, str]] = {}
    for of in sorted(expressions, key=lambda one: place.get(id(one.node), -1)):
        first = next((wrong[id(one)] for one in inputs_of(of) if id(one) in wrong), None)
        if first is None:
            try:
                parts.add(of)
                continue
            except NotFitting as error:
                first = error.node or of.node, str(error)
        wrong[id(of)] = first
    for name, end in ends.items():
        if id(end.of) in wrong:
            failures[name] = wrong[id(end.of)]
            continue
        try:
            outputs.append(_output(name, end, parts))
        except NotFitting as error:
            failures[name] = error.node or end.node, str(error)
    if not any(_counts(one, len(parts.layers)) for one in outputs):
        _refuse(failures, outputs, place)
    mask, pad_id = _mask(parts, probe, words)
    used = {name for name in parts.inputs.values() if name} | ({mask} if mask else set())
    if pad_id is not None:
        used.add(str(parts.inputs[Part.WORDS]))
    left_out = {name: f"{node} does not fit: {why}" for name, (node, why) in failures.items()}
    for name, value in traced.items():
        if isinstance(value, np.ndarray):
            left_out[name] = "it does not depend on the words"
    unused = tuple(one.name for one in graph.inputs if one.name not in used)
    return Found(parts, probe, tuple(outputs), left_out, mask, pad_id, unused), dependence


def _counts(output: Output, layers: int) -> bool:
    """Whether an output is one of an ALBERT's own, not merely on the way to it."""
    return output.role.part in _OUTPUTS and output.role.layer == layers > 0


def _refuse(
    failures: Mapping[str, tuple[Node, str]], outputs: Sequence[Output], place: Mapping[int, int]
) -> None:
    if not failures:
        if not outputs:
            raise ExportError("it is no ALBERT: no output depends on its words")
        given = "; ".join(f"{shown(one.name)} is {one.role}" for one in outputs)
        raise ExportError(
            f"it is no ALBERT that we know: of its outputs none is one of ALBERT's heads: {given}"
        )
    node, why = min(failures.values(), key=lambda one: place.get(id(one[0]), -1))
    raise ExportError(f"it is no ALBERT that we know: {node} does not fit: {why}")


def _expressions(
    traced: Mapping[str, Traced], failures: dict[str, tuple[Node, str]]
) -> tuple[list[Expression], dict[str, Value]]:
    """All expressions that outputs are made of, and the outputs without the functions that end them.

    An expression comes after those that it reads.
    """
    found: dict[int, Expression] = {}
    ends: dict[str, Value] = {}
    for name, value in traced.items():
        if isinstance(value, Unknown):
            failures[name] = value.node, value.why
        elif isinstance(value, Value):
            try:
                ends[name] = value.plain()
            except NotFitting as error:
                failures[name] = error.node or value.node, str(error)
                continue
            _collect(ends[name].of, found)
    return list(found.values()), ends


def _collect(of: Expression, found: dict[int, Expression]) -> None:
    """Add an expression and all that it reads, these first."""
    stack = [(of, False)]
    while stack:
        one, ready = stack.pop()
        if ready:
            found.setdefault(id(one), one)
        elif id(one) not in found:
            stack.append((one, True))
            stack.extend((other, False) for other in inputs_of(one))


def _output(name: str, value: Value, parts: Parts) -> Output:
    of, role, softened = value.of, parts.role(value.of), None
    if role.part is Part.PROBABILITY:
        assert isinstance(of, Activation | Softmax)
        softened = "softmax" if isinstance(of, Softmax) else of.name
        of = of.x
        role = parts.role(of)
    if value.is_whole():
        return Output(name, role, of, None, softened, parts.vectors.get(id(of)))
    first = _first_tokens(value, parts)
    if first is not None:
        return Output(name, Role(Part.VECTOR, role.layer), of, None, vector=first)
    columns = value.at % of.shape[-1]
    rows = value.at // of.shape[-1]
    column = int(columns.flat[0])
    whole_column = np.array_equal(rows.ravel(), np.arange(of.shape[0]))
    if softened or not isinstance(of, Linear) or not whole_column or (columns != column).any():
        raise NotFitting("the output is only a part of what an ALBERT computes")
    return Output(name, role, of, (column,))


def _first_tokens(value: Value, parts: Parts) -> Vector | None:
    """The vector that first tokens' states are; None if the value is something else."""
    try:
        return parts.vector_of(value.whole_rows())
    except NotFitting:
        return None


def _mask(parts: Parts, probe: Probe, words: tuple[int, int]) -> tuple[str | None, int | None]:
    """The input that masks, else the word that does."""
    kept = [mask for _, mask in parts.masks]
    if all(mask is None for mask in kept):
        return None, None
    first = kept[0]
    for (scores, _), mask in zip(parts.masks, kept, strict=True):
        if first is None or mask is None or not np.array_equal(mask, first):
            raise ExportError(
                f"it is no ALBERT that we know: {scores.node} does not fit: its layers' masks differ"
            )
    assert first is not None
    name = probe.input_of(first)
    if name is not None and name != parts.inputs.get(Part.WORDS):
        return name, None
    ids = probe.feeds[str(parts.inputs[Part.WORDS])]
    if np.array_equal(ids.ravel() != words[0], first.ravel()):
        return None, words[0]
    node = parts.masks[0][0].node
    raise ExportError(
        f"it is no ALBERT that we know: {node} does not fit: its mask is made of no input's 1 and 0"
    )
