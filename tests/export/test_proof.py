"""The proof that an export writes: which rows, which precisions, and that it holds."""

from dataclasses import replace
from pathlib import Path

import pytest

from albert_export.proof import make_proof, proof_rows
from albert_export.variants import VARIANTS
from albert_runtime import ArtifactError, Predictor
from albert_runtime.artifact.manifest import Manifest

from ..runtime.conftest import write_artifact

PRECISIONS = ("fp32", "bf16", "int8")
CHECKPOINT = Path(__file__).parents[2] / "models" / "python-albert"


@pytest.mark.parametrize("stored", ["fp32", "fp16", "bf16", "int8"])
def test_an_export_can_be_proved_in_every_precision(export_artifact, stored):
    program = export_artifact(CHECKPOINT, precision=stored)
    for precision in ("auto", *PRECISIONS):
        proved = Predictor(program, backend="native", precision=precision, prove=True).proved
        expected = {"auto": "fp32" if stored == "fp16" else stored}.get(precision, precision)
        assert proved.precision == expected and proved.outputs == ("prediction_scores",)
    digests = Predictor(program).manifest.proof.digests
    assert tuple(digests) == PRECISIONS
    assert len({outputs["prediction_scores"] for outputs in digests.values()}) == 3


@pytest.mark.parametrize("case", ["model-groups", "multiple-choice", "question-answering"])
def test_golden_models_are_proved(export_artifact, golden, case):
    predictor = Predictor(export_artifact(golden / case), backend="native", prove=True)
    assert predictor.proved.outputs == predictor.manifest.outputs


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_are_valid_and_their_work_is_bounded(variant):
    config = VARIANTS[variant]
    rows = proof_rows(config)
    assert rows == proof_rows(config) and len(rows) % 2 == 0
    assert {len(row.input_ids) for row in rows} >= {1}
    tokens = sum(len(row.input_ids) for row in rows)
    layer = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    assert tokens * config.num_hidden_layers * layer <= 50e9
    assert tokens >= 16
    for row in rows:
        assert len(row.token_type_ids) == len(row.input_ids)
        assert all(0 <= one < config.vocab_size for one in row.input_ids)
        assert all(0 <= one < config.type_vocab_size for one in row.token_type_ids)


def test_rows_fit_few_positions(tiny):
    assert [len(row.input_ids) for row in proof_rows(replace(tiny, max_position_embeddings=3))] == [
        3,
        3,
        3,
        1,
    ]


def test_a_precision_that_the_engine_refuses_has_no_digests(tmp_path):
    path = write_artifact(tmp_path, intermediate_size=70_000)  # int8 sums of so many could overflow
    proof = make_proof(path)
    assert tuple(proof.digests) == ("fp32", "bf16")
    replace(Manifest.read(path), proof=proof).write(path)
    assert Predictor(path, backend="native", prove=True).proved.precision == "fp32"


def test_the_artifacts_own_precision_must_have_digests(tmp_path):
    path = write_artifact(tmp_path, intermediate_size=70_000)
    replace(Manifest.read(path), precision="int8").write(path)
    with pytest.raises(ArtifactError, match="int8 sums of 70000 products could overflow"):
        make_proof(path)
