"""albert-serve --prove: what is served has the bits of the export and says so; all else is not served."""

import shutil
from dataclasses import replace

import pytest

from albert_runtime import ArtifactError, _native
from albert_runtime.artifact.manifest import Manifest

from ..runtime.conftest import add_proof, write_artifact
from .test_operations import run


@pytest.fixture(scope="module")
def proved(tmp_path_factory, piece_tokenizer):
    """An artifact as it is exported, with a proof."""
    folder = tmp_path_factory.mktemp("proved")
    return add_proof(write_artifact(folder, "proved", tokenizer=piece_tokenizer, max_position_embeddings=64))


def card(page, name):
    return page.split(f'<section data-model="{name}/1">')[1].split("</section>")[0]


def test_a_server_says_what_it_has_proved(start, proved):
    server = start([proved], "--prove", "--precision", "int8")
    assert server.http.get("/v2/health/ready").status_code == 200
    assert server.metrics()["albert_proved", "proved", "int8"] == 1
    (model,) = server.http.get("/status.json").json()["models"]
    assert model["proved"] is True
    assert "int8, to the bit: last_hidden_state, pooled_output" in card(server.http.get("/").text, "proved")


def test_a_server_that_was_not_asked_to_says_that_too(start, proved):
    server = start([proved])
    assert server.metrics()["albert_proved", "proved", "fp32"] == 0
    assert server.http.get("/status.json").json()["models"][0]["proved"] is False
    assert "no, see --prove" in card(server.http.get("/").text, "proved")


def test_other_bits_are_not_served(proved, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(proved.parent, folder)
    path = folder / proved.name
    manifest = Manifest.read(path)
    replace(manifest, config=replace(manifest.config, layer_norm_eps=1e-7)).write(path)
    done = run(proved, path, "--prove", "--backend", "native", "--port", 0, "--grpc-port", 0)
    assert done.returncode == 1 and '"ready"' not in done.stderr
    isa = _native.default_isa()
    assert f"albert-serve: error: proved: last_hidden_state in fp32 on {isa} differs" in done.stderr


def test_every_model_of_a_server_must_have_a_proof(make_app, artifacts):
    with pytest.raises(ArtifactError, match="has no digests of answers"):
        make_app("embedder", options={"prove": True})
