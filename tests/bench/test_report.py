"""The Markdown: what a reader finds in the tables."""

from albert_bench.report import fastest_run, markdown, table

SPREAD = {"median": 2.0, "p10": 1.5, "p90": 2.5}


def run(name, batching="whole", ms=1.0, **more):
    return {"contender": name, "form": batching, "ms": {"median": ms}, "gflops": {"median": 150.4}, **more}


MIXED = {
    "work": "mixed 32",
    "threads": 2,
    "lengths": [3, 4],
    "entrants": [
        run("engine fp32", ms=123.4, share={"median": 0.654}, ratio={**SPREAD, "median": 1.0}),
        run("peer fp32", ratio={**SPREAD, "median": 3.0}),
        run("peer fp32", "buckets of 4", ratio=SPREAD),
        {"contender": "peer fp32", "form": "one by one", "fault": "died"},
        run("other plain fp32", ratio=SPREAD),
        run("peer int8", "one by one", ms=7.891),
    ],
}
RESULTS = {
    "date": "2026-11-25",
    "machine": {
        "cpu": "Some CPU",
        "instructions": ["fma"],
        "cpus": 2,
        "memory_bytes": 2**34,
        "system": "Linux 6",
        "python": "3.11.7",
    },
    "versions": {"peer": "1.2"},
    "settings": {"rounds": 5},
    "models": [
        {
            "name": "albert-x",
            "contenders": [{"contender": "absent fp32", "unavailable": "no such CPU"}],
            "work": [MIXED, {**MIXED, "work": "8x128", "lengths": [128] * 8}],
            "memory": [
                {
                    "contender": "peer fp32",
                    "resident_bytes": 123_400_000,
                    "library_bytes": 23_000_000,
                    "peak_bytes": 223_000_000,
                    "load_s": 0.5,
                    "first_answer_s": 0.25,
                },
                {"contender": "absent fp32", "unavailable": "no such CPU"},
            ],
        }
    ],
}


def test_best_form():
    assert fastest_run(MIXED, "peer", "fp32")["form"] == "buckets of 4"
    assert fastest_run(MIXED, "other", "fp32", "plain")["form"] == "whole"
    assert fastest_run(MIXED, "none", "fp32") is None


def test_tables():
    text = markdown(RESULTS)
    assert "Some CPU (fma), 2 CPUs, 16 GiB; Linux 6, Python 3.11.7; peer 1.2. 2026-11-25, 5 rounds." in text
    assert "### fp32, 2 threads\n\n| work | engine, ms | GFLOP/s | share | peer | other plain |" in text
    peer = "2.00 (1.50\u20132.50)"
    assert f"| mixed 32 | 123 | 150 | 65 % | {peer}, buckets of 4 | {peer}, whole |" in text
    assert f"| 8x128 | 123 | 150 | 65 % | {peer} | {peer} |" in text
    # Without the engine in this precision there is no ratio, but a time.
    assert "| mixed 32 | \u2013 | \u2013 | \u2013 | 7.89 ms, one by one |" in text
    assert "bf16" not in text
    assert "| peer fp32 | 123 | 23 | 223 | 0.75 |" in text


def test_who_is_left_out_is_named_once():
    text = markdown(RESULTS)
    assert text.count("* absent fp32: no such CPU\n") == 1
    assert text.count("* peer fp32, mixed 32, one by one: died") == 1


def test_no_peak():
    engine = run("engine fp32", ms=123.4)
    model = {**RESULTS["models"][0], "work": [{**MIXED, "entrants": [engine]}]}
    assert "| mixed 32 | 123 | 150 | \u2013 |" in markdown({**RESULTS, "models": [model]})


def test_table():
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"
