"""What a program and its export are compared on: batches that mean the same to both, answers in one form."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.tasks import NONE
from albert_runtime.text.scores import activated

from .albert import Albert, ProgramOutput
from .graph import Graph

Batch = dict[str, np.ndarray]
# (rows, tokens) of a batch where the program takes any, and which share of the tokens each row has.
_SHAPES = ((1, 67), (4, 24), (3, 9))
_CHOICES = 2
_SEED = 20261127


@dataclass(frozen=True)
class TakenProgram:
    """A program that an ALBERT was taken out of, as far as it takes to run it.

    ``files``: the program, then its weights'. ``inputs`` and ``outputs``: what it calls ours. ``fixed``: the
    sizes of its inputs, None where any is taken. ``types``: numpy's names of its inputs' types; ``others``:
    inputs that are none of ours. ``half``: it computes in 16 bits.
    """

    files: tuple[Path, ...]
    inputs: dict[str, str]
    outputs: dict[str, ProgramOutput]
    fixed: tuple[int | None, ...]
    types: dict[str, str]
    others: tuple[str, ...]
    pad_id: int | None
    half: bool


def taken_program(graph: Graph, albert: Albert) -> TakenProgram:
    """The program of an ALBERT."""
    by_name = {one.name: one for one in graph.inputs}
    sizes = zip(*(one.shape for one in graph.inputs), strict=True)
    return TakenProgram(
        files=tuple(file.absolute() for file in graph.files),
        inputs=dict(albert.inputs),
        outputs=dict(albert.outputs),
        fixed=tuple(next((size for size in one if size), None) for one in sizes),
        types={name: one.dtype for name, one in by_name.items()},
        others=tuple(name for name in by_name if name not in albert.inputs.values()),
        pad_id=albert.pad_id,
        half=any(values.dtype == np.float16 for values in albert.tensors.values()),
    )


def comparison_batches(program: TakenProgram, config: AlbertConfig) -> list[Batch]:
    """Random batches that mean the same to a program and to its export.

    All three of our inputs, int64. Rows are padded where the program can mask; only those of one length if it
    cannot.
    """
    generator = np.random.default_rng(_SEED)
    batches = []
    for rows, width in _SHAPES:
        shape = [rows, width] if len(program.fixed) == 2 else [rows, _CHOICES, width]
        shape = [given or wanted for given, wanted in zip(program.fixed, shape, strict=True)]
        shape[-1] = min(shape[-1], config.max_position_embeddings)
        lengths = np.full(shape[:-1], shape[-1])
        if "attention_mask" in program.inputs or program.pad_id is not None:
            # At the end: some programs take masks for the rows' lengths.
            lengths = generator.integers(1, shape[-1] + 1, shape[:-1])
            lengths.flat[0] = shape[-1]
        mask = (np.arange(shape[-1]) < lengths[..., None]).astype(np.int64)
        ids = generator.integers(0, config.vocab_size, shape)
        types = generator.integers(0, config.type_vocab_size, shape)
        pad = program.pad_id if program.pad_id is not None else config.pad_token_id
        if program.pad_id is not None and config.vocab_size > 1:
            ids = np.where(ids == pad, (pad + 1) % config.vocab_size, ids)
        if "token_type_ids" not in program.inputs:
            types = np.zeros_like(types)
        batches.append(
            {
                "input_ids": np.where(mask == 1, ids, pad),
                "attention_mask": mask,
                "token_type_ids": types * mask,
            }
        )
    return batches


def program_feeds(program: TakenProgram, batch: Batch) -> Batch:
    """What a program's inputs get for a batch of ours."""
    feeds = {}
    for ours, theirs in program.inputs.items():
        feeds[theirs] = batch[ours].astype(program.types[theirs])
    shape = batch["input_ids"].shape
    for name in program.others:
        # Positions, or what it makes no use of.
        feeds[name] = np.broadcast_to(np.arange(shape[-1]), shape).astype(program.types[name])
    return feeds


def as_program_gives(program: TakenProgram, answer: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of our answer, what the program gives too, softened as it is there."""
    return {
        ours: activated(answer[ours], output.softened or NONE) for ours, output in program.outputs.items()
    }


def as_ours(
    program: TakenProgram, answer: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """A program's answer in the shapes of ours: one column of it, or with axes that it joins or drops."""
    shaped = {}
    for name, values in answer.items():
        column, shape = program.outputs[name].column, ours[name].shape
        picked = values if column is None else values[..., column]
        shaped[name] = picked.reshape(shape) if picked.size == ours[name].size else picked
    return shaped
