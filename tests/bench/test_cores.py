"""Threads of the CPU engine: speeds, ratios to one thread, shares; and the command on a tiny model."""

import json

from albert_bench.cores import main, markdown, scaling


def run(precision, ms, **more):
    return {"contender": f"engine {precision}", "form": "whole", "ms": {"median": ms}, **more}


def test_ratios_are_to_one_thread():
    work = [
        {
            "work": "1x128",
            "threads": 2,
            "tokens": 128,
            "entrants": [run("fp32", 40.0, share={"median": 0.8})],
        },
        {"work": "1x128", "threads": 1, "tokens": 128, "entrants": [run("fp32", 64.0), run("int8", 16.0)]},
        {"work": "8x128", "threads": 2, "tokens": 1024, "entrants": [run("fp32", 512.0)]},
    ]
    found = {(one["work"], one["precision"], one["threads"]): one for one in scaling(work)}
    assert found["1x128", "fp32", 1]["tokens_per_second"] == 2000
    assert found["1x128", "fp32", 1]["ratio"] == 1
    assert found["1x128", "fp32", 2]["ratio"] == 1.6
    assert found["1x128", "fp32", 2]["share"] == 0.8
    assert "share" not in found["1x128", "int8", 1]
    assert "ratio" not in found["8x128", "fp32", 2]


def test_the_command_writes_both_files(tmp_path, capsys):
    assert main(["--tiny", "--models", str(tmp_path / "models"), "--output", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "cores.json").read_text(encoding="utf-8"))
    counts = [work["threads"] for work in results["models"][0]["work"]]
    assert counts[0] == 1 and counts == sorted(set(counts))
    assert (tmp_path / "cores.md").read_text(encoding="utf-8") == markdown(results) == capsys.readouterr().out
    for precision in ("fp32", "int8"):
        assert f"## tiny, {precision}, 1x16" in markdown(results)
