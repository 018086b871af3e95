"""albert-bench from end to end on a tiny model, with budgets of milliseconds."""

import json
import shutil
from pathlib import Path

import pytest

from albert_bench import cli
from albert_bench.cli import main
from albert_bench.compare import thread_counts
from albert_bench.peers.base import PEERS, Contender, Peer


@pytest.fixture
def bench(tiny, tmp_path, capsys):
    """Run the command on the tiny model: (exit code, results or None, stdout, stderr)."""

    def bench(*options, artifact=tiny):
        folder = tmp_path / "out"
        arguments = [str(artifact), "--turn", "0", "--rounds", "2", "--threads", "1", "-o", str(folder)]
        code = main([*arguments, *options])
        out, err = capsys.readouterr()
        file = folder / "bench.json"
        return code, json.loads(file.read_text()) if file.is_file() else None, out, err

    return bench


def test_engine_and_onnxruntime(bench, tmp_path):
    code, results, out, _ = bench("--only", "onnxruntime", "--precision", "fp32,int8", "--threads", "2")
    assert code == 0
    assert out == (tmp_path / "out" / "bench.md").read_text()
    assert "onnxruntime" in (tmp_path / "out" / "throughput.svg").read_text()
    (model,) = results["models"]
    assert [row["work"] for row in model["work"]] == ["1x16", "mixed 32", "mixed 128"]
    batchings = {}
    for run in model["work"][1]["entrants"]:
        batchings.setdefault(run["contender"], []).append(run["form"])
        assert "fault" not in run
        assert run["check"]["cosine"] > 0.95
        assert len(run["seconds"]) == 2
        assert run["ms"]["median"] > 0
    assert batchings["engine fp32"] == ["whole"]
    peer_forms = ["whole", "one by one", "buckets of 4", "buckets of 8", "2 streams"]
    assert batchings["onnxruntime fp32"] == batchings["onnxruntime int8"] == peer_forms
    memory = {row["contender"]: row for row in model["memory"]}
    assert 0 < memory["onnxruntime fp32"]["resident_bytes"] < memory["onnxruntime fp32"]["peak_bytes"]


def test_quick(bench):
    code, results, _, _ = bench("--quick", "--only", "onnxruntime", "--precision", "fp32")
    assert code == 0
    assert [row["work"] for row in results["models"][0]["work"]] == ["1x16", "mixed 32"]
    assert results["models"][0]["memory"] == []


FAULTY = """
import os
from albert_runtime import Predictor


class Faulty:
    def __init__(self, job):
        self.precision = job.contender.precision
        if self.precision == "int8":
            raise ValueError("no int8\\nhere")
        self.predictor = Predictor(job.artifact)

    def run(self, rows):
        if self.precision == "bf16":
            os.abort()
        return {name: -values for name, values in self.predictor.run(rows).items()}


build = Faulty
"""


def test_faulty_contenders_are_reported_and_not_timed(bench, monkeypatch, tmp_path):
    """One answers wrongly, one dies, one cannot be built: the others are measured."""
    (tmp_path / "faulty_peer.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)  # children inherit it
    contenders = tuple(Contender("faulty", precision) for precision in ("fp32", "bf16", "int8"))
    monkeypatch.setitem(PEERS, "faulty", Peer("faulty", "faulty_peer", (), contenders))
    monkeypatch.setattr(cli, "_OTHERS", ("faulty",))
    code, results, out, err = bench("--quick", "--only", "faulty")
    assert code == 0
    (model,) = results["models"]
    for row in model["work"]:
        runs = {run["contender"]: run for run in row["entrants"]}
        assert runs["engine fp32"]["ms"]["median"] > 0
        assert "differs by" in runs["faulty fp32"]["fault"]
        assert runs["faulty bf16"]["fault"].startswith("its process died of SIGABRT")
        assert "ms" not in runs["faulty fp32"] | runs["faulty bf16"]
    assert "* faulty int8: ValueError: no int8 here\n" in out
    assert "faulty fp32 is left out: differs by" in err


@pytest.mark.parametrize("peer", [name for name in PEERS if name != "engine"])
def test_a_peer_that_is_named_but_not_installed(bench, monkeypatch, peer):
    monkeypatch.setattr(Peer, "missing", lambda self: None if self.name == "engine" else self.packages[0])
    code, results, _, err = bench("--only", peer)
    assert (code, results) == (2, None)
    extra = "paddle" if peer == "paddle" else "bench"
    package = PEERS[peer].packages[0]
    assert err == (
        f"albert-bench: error: {peer} needs {package}, which is not installed; "
        f"pip install 'albert-runtime[{extra}]'\n"
    )


def test_peers_that_are_not_installed_are_left_out(bench, monkeypatch):
    monkeypatch.setattr(Peer, "missing", lambda self: None if self.name == "engine" else self.packages[0])
    code, results, _, err = bench("--quick", "--precision", "fp32")
    assert code == 0
    assert "albert-bench: onnxruntime is left out: onnxruntime is not installed; pip install" in err
    contenders = {run["contender"] for run in results["models"][0]["work"][0]["entrants"]}
    assert contenders == {"engine fp32"}


def test_an_artifact_that_does_not_exist(bench, tmp_path):
    code, results, _, err = bench(artifact=tmp_path / "none")
    assert (code, results) == (2, None)
    assert "none.manifest.json exists; export it with albert-export" in err


def test_an_artifact_without_pooler(bench, tiny, tmp_path):
    folder = Path(shutil.copytree(tiny.parent, tmp_path / "model"))
    path = folder / tiny.name
    manifest = json.loads(path.read_text())
    manifest["config"]["add_pooling_layer"] = False
    manifest["outputs"] = manifest["outputs"][:1]
    manifest["tensors"] = [t for t in manifest["tensors"] if not t["name"].startswith("pooler")]
    path.write_text(json.dumps(manifest))
    code, results, _, err = bench(artifact=path)
    assert (code, results) == (2, None)
    assert "encoders with a pooler are compared; export it with albert-export --task model\n" in err


def test_an_engine_without_answers_fails(bench, monkeypatch):
    monkeypatch.setenv("ALBERT_FORCE_ISA", "none")
    code, _, out, err = bench("--quick", "--only", "onnxruntime")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("albert-bench: error: WrongSettingError: ALBERT_FORCE_ISA: ")


def test_a_result_folder_that_cannot_be_made(bench, tmp_path):
    (tmp_path / "out").write_text("a file")
    code, _, _, err = bench("--quick")
    assert code == 1
    assert f"{tmp_path / 'out'}" in err


@pytest.mark.parametrize(
    "options",
    [
        "",
        "x --only nobody",
        "x --precision fp64",
        "x --rounds 0",
        "x --turn soon",
        "x --threads 1,0",
        "x --qui",
    ],
)
def test_wrong_usage(capsys, options):
    with pytest.raises(SystemExit) as raised:
        main(options.split())
    assert raised.value.code == 2
    assert "usage: albert-bench" in capsys.readouterr().err


def test_numbers_of_threads_of_the_standard_run():
    assert [thread_counts(cpus) for cpus in (1, 2, 3, 64)] == [(1,), (1, 2), (1, 2, 3), (1, 2, 4, 8, 16)]
    assert thread_counts(24, limit=24) == (1, 2, 4, 8, 16, 24)


def test_options_and_artifacts_in_any_order(monkeypatch, tiny, tmp_path):
    seen = []
    monkeypatch.setattr(cli, "measure", lambda plans, *more: seen.append(plans) or 0)
    other = tmp_path / "other"
    shutil.copytree(Path(tiny) if Path(tiny).is_dir() else Path(tiny).parent, other)
    for words in (
        [str(tiny), "-o", str(tmp_path), str(other)],
        ["--turn", "0", str(tiny), str(other), "--quick"],
    ):
        assert main(words) == 0
    assert [len(plans) for plans in seen] == [2, 2]
