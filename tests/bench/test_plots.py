"""The plots: made of whatever was timed, the same from the same results."""

from albert_bench.plots import draw

MACHINE = {"cpu": "Some CPU"}


def row(workload, lengths, *names, threads=2):
    figures = {
        "form": "whole",
        "ms": {"median": 2.0},
        "gflops": {"median": 100.0},
        "ceiling_gflops": {"0": 230.0},
    }
    runs = [{"contender": name, **figures} for name in names]
    return {"work": workload, "threads": threads, "lengths": lengths, "entrants": runs}


def results(*rows):
    return {"machine": MACHINE, "models": [{"name": "albert-x", "work": list(rows)}]}


def test_pictures(tmp_path):
    found = results(
        row("1x16", [16], "engine fp32", "peer fp32", "peer int8"),
        row("1x32", [32], "engine fp32"),
        row("2x16", [16, 16], "engine fp32", "other plain fp32"),
        row("never", [16], "engine fp32", threads=1),
    )
    assert [path.name for path in draw(found, tmp_path)] == ["throughput.svg", "latency.svg"]
    texts = [(tmp_path / name).read_text() for name in ("throughput.svg", "latency.svg")]
    assert "albert-x, 2 threads, Some CPU" in texts[0]
    for label in ("engine", "other plain", "peer", "peak", "2x16", "int8"):
        assert label in texts[0]
    assert "never" not in texts[0]
    assert "other plain" not in texts[1]
    draw(found, tmp_path)
    assert texts == [(tmp_path / name).read_text() for name in ("throughput.svg", "latency.svg")]


def test_no_line_through_one_length(tmp_path):
    found = results(row("1x16", [16], "engine fp32"), row("2x16", [16, 16], "engine fp32"))
    assert [path.name for path in draw(found, tmp_path)] == ["throughput.svg"]


def test_nothing_to_draw(tmp_path, monkeypatch):
    assert draw(results(), tmp_path) == []
    faulty = row("1x16", [16])
    faulty["entrants"] = [{"contender": "engine fp32", "form": "whole", "fault": "died"}]
    assert draw(results(faulty), tmp_path) == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert draw(results(row("1x16", [16], "engine fp32")), tmp_path) == []
