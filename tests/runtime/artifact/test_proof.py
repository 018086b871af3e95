"""The proof of a manifest: the round trip, and one that someone damaged or forged."""

import copy
import json

import pytest

from albert_runtime.artifact.artifact import Artifact
from albert_runtime.artifact.manifest import Manifest
from albert_runtime.errors import ArtifactError

from ..conftest import add_proof

ROW = {"input_ids": [2, 7, 3], "token_type_ids": [0, 1, 1]}


@pytest.fixture
def path(make_artifact):
    return add_proof(make_artifact())


def test_round_trip(path, tmp_path):
    manifest = Manifest.read(path)
    assert set(manifest.proof.digests) == {"fp32", "bf16", "int8"}
    manifest.write(tmp_path / "again.manifest.json")
    assert (tmp_path / "again.manifest.json").read_bytes() == path.read_bytes()
    assert Manifest.read(tmp_path / "again.manifest.json") == manifest


def test_a_manifest_without_one_is_written_as_before(make_artifact):
    path = make_artifact()
    assert Manifest.read(path).proof is None and "proof" not in json.loads(path.read_text())


def test_digests_of_a_precision_that_came_later_are_left_alone(path):
    data = json.loads(path.read_text())
    data["proof"]["digests"]["fp8"] = {"pooled_output": "0" * 64}
    path.write_text(json.dumps(data))
    assert "fp8" in Artifact.open(path).manifest.proof.digests


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": {}}, "proof.rows must be a list"),
        ({"rows": []}, "proof.rows hold 0 tokens, not 1 to 4096"),
        ({"rows": [ROW] * 2000}, "proof.rows hold 6000 tokens, not 1 to 4096"),
        ({"rows": [[1, 2]]}, "proof.rows[0] must be an object"),
        ({"rows": [ROW, {"input_ids": [1]}]}, "proof.rows[1].token_type_ids is missing"),
        ({"rows": [{**ROW, "input_ids": []}]}, "proof.rows[0] has 0 tokens, not 1 to 10"),
        ({"rows": [{**ROW, "input_ids": [1] * 11}]}, "proof.rows[0] has 11 tokens, not 1 to 10"),
        ({"rows": [{**ROW, "input_ids": [1, 2]}]}, "proof.rows[0] has 2 token ids and 3 token types"),
        ({"rows": [{**ROW, "input_ids": [1, 50, 2]}]}, "input_ids holds 50, not a whole number from 0 to 49"),
        ({"rows": [{**ROW, "input_ids": [1, -1, 2]}]}, "input_ids holds -1, not"),
        ({"rows": [{**ROW, "input_ids": [1, True, 2]}]}, "input_ids holds True, not"),
        ({"rows": [{**ROW, "input_ids": [1, 2.0, 2]}]}, "input_ids holds 2.0, not"),
        ({"rows": [{**ROW, "token_type_ids": [0, 0, 2]}]}, "token_type_ids holds 2, not"),
        ({"digests": []}, "proof.digests must be an object"),
        ({"digests": {}}, "proof.digests is empty"),
        ({"digests": {"fp32": {}}}, "proof.digests.fp32 is empty"),
        ({"digests": {"fp32": "0"}}, "fp32 must be an object"),
        (
            {"digests": {"fp32": {"logits": "0" * 64}}},
            "names logits, which is no output; they are last_hidden",
        ),
        ({"digests": {"fp32": {"pooled_output": "0" * 63}}}, "pooled_output is not 64 hexadecimal digits"),
    ],
)
def test_bad_values(path, change, message):
    data = copy.deepcopy(json.loads(path.read_text()))
    data["proof"].update(change)
    path.write_text(json.dumps(data))
    with pytest.raises(ArtifactError) as caught:
        Artifact.open(path)
    assert str(caught.value).startswith("tiny.manifest.json: proof.") and message in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [[], "proof", 1])
def test_what_is_no_proof(path, value):
    path.write_text(json.dumps({**json.loads(path.read_text()), "proof": value}))
    with pytest.raises(ArtifactError, match="proof must be an object"):
        Artifact.open(path)


def test_choices_come_in_pairs(make_artifact):
    path = add_proof(make_artifact(task="multiple-choice"))
    data = json.loads(path.read_text())
    data["proof"]["rows"].pop()
    path.write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match=r"proof\.rows are 3, not 2 for each question"):
        Artifact.open(path)
