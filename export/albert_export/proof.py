"""The proof that goes into the manifest: rows, and digests of the engine's answers in each precision."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from albert_runtime import Predictor
from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.manifest import Manifest
from albert_runtime.artifact.proof import Proof, ProofRow
from albert_runtime.backends.registry import PROVABLE, PROVABLE_PRECISIONS
from albert_runtime.errors import ArtifactError
from albert_runtime.proof import answer_digests, provable_outputs

_SEED = 20240229
# Lengths of the rows. The first are long enough for every path of the kernels: more rows than are multiplied
# one by one, tiles that are not full, several blocks of keys, a single token. Larger models get fewer tokens.
_LENGTHS = ((67, 17, 5, 1), (26, 6, 2, 1), (9, 4, 2, 1))
# Multiply-adds of a proof: a second or two on two cores.
_MOST_WORK = 50e9


def make_proof(path: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Proof:
    """The proof of an artifact.

    Args:
        path: Its manifest.
        progress: Called after each precision with how many are done, and how many there are.

    Returns:
        Digests in every precision that the engine runs this model in.

    Raises:
        AlbertError: The engine cannot run it in the artifact's own precision.
    """
    manifest = Manifest.read(path)
    rows = proof_rows(manifest.config)
    outputs = provable_outputs(manifest)
    digests = {}
    for done, precision in enumerate(PROVABLE_PRECISIONS, 1):
        try:
            predictor = Predictor(path, backend=PROVABLE, precision=precision)
        except ArtifactError:  # in int8 a very wide matrix could overflow
            if precision == manifest.precision:
                raise
            continue
        digests[precision] = answer_digests(predictor.run, rows, manifest.head, outputs)
        progress(done, len(PROVABLE_PRECISIONS))
    return Proof(rows, digests)


def proof_rows(config: AlbertConfig) -> tuple[ProofRow, ...]:
    """Seeded rows, an even number: as many tokens as the model answers within a second or two."""
    lengths = next((some for some in _LENGTHS if sum(some) * _work(config) <= _MOST_WORK), _LENGTHS[-1])
    generator = np.random.default_rng(_SEED)
    rows = []
    for longest in lengths:
        length = min(longest, config.max_position_embeddings)
        ids = generator.integers(0, config.vocab_size, length)
        if config.padding_idx is not None and length > 2:
            ids[2] = config.padding_idx  # the one word whose lookup differs from its stored row
        types = generator.integers(0, config.type_vocab_size, length)
        rows.append(ProofRow(tuple(ids.tolist()), tuple(types.tolist())))
    return tuple(rows)


def _work(config: AlbertConfig) -> float:
    """Multiply-adds of a token in the layers' matrices, to which heads and attention add little."""
    layer = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    return float(config.num_hidden_layers * config.inner_group_num * layer)
