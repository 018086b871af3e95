"""Proving that a loaded model answers as it did where it was exported, to the bit.

The engine's results have the same bits whatever the batch, the threads and the instruction set. So digests of
a few answers, taken at the export, are those that every machine must get.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata

import numpy as np
from numpy.typing import NDArray

from .artifact.artifact import Artifact
from .artifact.manifest import SUFFIX, Manifest
from .artifact.proof import CHOICES, ProofRow
from .artifact.tasks import MULTIPLE_CHOICE, SENTENCE_EMBEDDING, Head
from .backends.base import Backend, Outputs
from .backends.registry import PROVABLE
from .backends.sentence_pooling import same_bits_everywhere
from .errors import ArtifactError, BackendError

# As Predictor.run: a padded batch and the names of outputs -> the outputs.
Run = Callable[[dict[str, NDArray[np.int64]], Sequence[str]], Outputs]

_NAN = np.uint32(0x7FC00000)
_SHOWN = 12  # digits of a digest in messages


@dataclass(frozen=True, slots=True)
class Proved:
    """What was proved of a loaded model; ``str`` of it is a sentence.

    Attributes:
        model: The artifact's name.
        precision: What the engine computes in.
        isa: The instruction set it uses.
        outputs: The outputs that have the digests of the manifest.
        without_digest: The model's other outputs.
    """

    model: str
    precision: str
    isa: str
    outputs: tuple[str, ...]
    without_digest: tuple[str, ...]

    def __str__(self) -> str:
        others = "".join(f"; {name} has no digest" for name in self.without_digest)
        outputs = ", ".join(self.outputs)
        return f"{self.model} in {self.precision} on {self.isa} has the bits of the export: {outputs}{others}"


def check_provable(artifact: Artifact, backend: str) -> None:
    """Raise an error unless this artifact has a proof, and ``backend`` (or ``auto``) gives provable bits.

    Raises:
        ArtifactError: The artifact has no manifest, or its manifest no proof.
        BackendError: The bits of that backend depend on the machine.
    """
    if backend not in ("auto", PROVABLE):
        raise BackendError(
            f"what {backend} computes differs between machines in its last bits and cannot be proved; "
            f"use backend={PROVABLE!r}, or do not ask for a proof"
        )
    if artifact.manifest is None:
        raise ArtifactError(
            f"{artifact.stem} has no {artifact.stem}{SUFFIX} to prove it with; export the model again"
        )
    if artifact.manifest.proof is None:
        raise ArtifactError(
            f"{artifact.stem}{SUFFIX} has no digests of answers to compare, since an older albert-export "
            "wrote it; export the model again"
        )


def prove(artifact: Artifact, backend: Backend, run: Run) -> Proved:
    """Answer the rows of the artifact's proof and compare the digests of the answers.

    Args:
        artifact: What was loaded.
        backend: What it runs on.
        run: Predictor.run with that backend.

    Raises:
        ArtifactError: There is no proof for this artifact, or none for this precision.
        BackendError: The backend cannot be proved, or an answer has other bits than at the export.
    """
    check_provable(artifact, backend.name)
    manifest = artifact.manifest
    assert manifest is not None and manifest.proof is not None  # as was just checked
    info = backend.info()
    precision, isa = str(info["computes"]), str(info["isa"])
    expected = manifest.proof.digests.get(precision)
    if expected is None:
        raise ArtifactError(
            f"{artifact.stem}{SUFFIX} has digests for {', '.join(manifest.proof.digests)}, none for "
            f"{precision}; choose another precision, or export the model again"
        )
    found = answer_digests(run, manifest.proof.rows, manifest.head, tuple(expected))
    for name, digest in expected.items():
        if found[name] != digest:
            raise BackendError(_difference(manifest, f"{name} in {precision} on {isa}", found[name], digest))
    others = tuple(name for name in manifest.outputs if name not in expected)
    return Proved(manifest.name, precision, isa, tuple(expected), others)


def provable_outputs(manifest: Manifest) -> tuple[str, ...]:
    """The outputs whose bits do not depend on the machine.

    That is all that the engine computes. sentence_embedding, which numpy computes from it, is one unless its
    dense steps use functions that C libraries and numpy round differently.
    """
    sentence = manifest.head.sentence
    exact = sentence is None or same_bits_everywhere(sentence)
    return tuple(name for name in manifest.outputs if exact or name != SENTENCE_EMBEDDING)


def answer_digests(run: Run, rows: Sequence[ProofRow], head: Head, outputs: Sequence[str]) -> dict[str, str]:
    """The digest of each output for one batch of these rows, padded at their ends."""
    answers = run(_padded(rows, head), outputs)
    return {name: output_digest(name, answers[name]) for name in outputs}


def output_digest(name: str, values: NDArray[np.float32]) -> str:
    """The sha256 of an output, in hex: of a line such as ``logits float32 4,2``, then of its values.

    Values are little-endian, the last axis fastest, in the bits that they have: -0.0 is not 0.0. Only a NaN
    counts as 0x7fc00000 whatever its bits, because processors make different ones.
    """
    bits = np.where(np.isnan(values), _NAN, np.ascontiguousarray(values, np.float32).view(np.uint32))
    shape = ",".join(map(str, values.shape))
    digest = hashlib.sha256(f"{name} float32 {shape}\n".encode())
    digest.update(bits.astype("<u4").tobytes())
    return digest.hexdigest()


def _padded(rows: Sequence[ProofRow], head: Head) -> dict[str, NDArray[np.int64]]:
    """Arrays [B, T] as Predictor.run takes them; for multiple choice [B / CHOICES, CHOICES, T]."""
    width = max(len(row.input_ids) for row in rows)
    ids, mask, types = (np.zeros((len(rows), width), np.int64) for _ in range(3))
    for index, row in enumerate(rows):
        length = len(row.input_ids)
        ids[index, :length], types[index, :length] = row.input_ids, row.token_type_ids
        mask[index, :length] = 1
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    if head.task == MULTIPLE_CHOICE:
        return {name: values.reshape(-1, CHOICES, width) for name, values in batch.items()}
    return batch


def _difference(manifest: Manifest, what: str, found: str, expected: str) -> str:
    exporter, here = manifest.created_by.get("albert-runtime"), metadata.version("albert-runtime")
    if exporter == here:
        remedy = (
            "the processor, this build of albert-runtime or the files are at fault; do not serve from here"
        )
    else:
        remedy = (
            f"albert-runtime {exporter} exported it and this is {here}; export it again with this version"
        )
    return (
        f"{manifest.name}: {what} differs from the export "
        f"(sha256 {found[:_SHOWN]}... instead of {expected[:_SHOWN]}...); {remedy}"
    )
