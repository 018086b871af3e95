"""The benchmark on a GPU: figures of what was timed, targets, the table of kernels, what fidelity allows."""

import re
from types import SimpleNamespace

import pytest

from albert_bench.gpu.cases import FULL, LARGE_BATCH, Work
from albert_bench.gpu.fidelity import allowed
from albert_bench.gpu.kernels import KernelTime, kernel_times, markdown
from albert_bench.gpu.report import fastest_batchings, figures
from albert_bench.gpu.targets import TARGETS, target_rows
from albert_bench.rounds import Times
from albert_bench.workload import uniform
from albert_export.verify import Errors


def run(name, form="whole", seconds=(0.5,)):
    return SimpleNamespace(contender=SimpleNamespace(name=name), batching=form, seconds=list(seconds))


def test_figures_are_of_the_same_round():
    runs = [run("engine bf16", seconds=[0.1, 0.3]), run("torch sdpa bf16"), run("torch varlen bf16")]
    times = [
        Times({0: 0.1, 1: 0.2}, {0: 100.0, 1: 50.0}),
        Times({0: 0.2, 1: 0.4}, {0: 100.0, 1: 50.0}),
        Times(fault="out of memory"),
    ]
    engine, padded, packed = figures(runs, times, tokens=10, flops=5.0, precision="bf16")
    assert engine["tokens_per_second"]["median"] == pytest.approx(75.0)
    assert engine["share"]["median"] == pytest.approx(0.5)  # 50 of 100 in one round, 25 of 50 in the other
    assert (engine["p50_ms"], engine["p99_ms"]) == pytest.approx((200.0, 298.0))
    assert engine["ratio"]["median"] == 1.0
    assert padded["ratio"]["median"] == pytest.approx(2.0)
    assert packed == {"name": "torch varlen bf16", "form": "whole", "calls": 1, "fault": "out of memory"}


def entrant(name, speed, form="whole", **more):
    return {"name": name, "form": form, "tokens_per_second": {"median": speed}, **more}


def test_the_fastest_form_of_each_counts():
    work = {
        "entrants": [
            entrant("torch", 1.0),
            entrant("torch", 2.0, "graph"),
            entrant("engine", 3.0),
            entrant("engine", 9.0, "odd", fault="gone"),
            {"name": "other", "form": "whole", "fault": "never ran"},
        ]
    }
    assert [(one["name"], one["form"]) for one in fastest_batchings(work)] == [
        ("engine", "whole"),
        ("torch", "graph"),
    ]


def test_targets_are_met_missed_or_not_measured():
    found = {
        ("albert-base-v2", "256x128"): [
            entrant("torch sdpa bf16", 5e6, share={"median": 0.9}),
            entrant("engine bf16", 1.2e6, share={"median": 0.5}),
        ],
        ("albert-base-v2", "mixed 256"): [
            entrant("engine bf16", 3.0, ratio={"median": 1.0}),
            entrant("torch sdpa bf16", 2.0, ratio={"median": 1.6}),
            entrant("torch varlen bf16", 1.0, ratio={"median": 3.0}),
            entrant("engine int8", 4.0, ratio={"median": 0.5}),
        ],
        ("albert-base-v2", "1x16"): [entrant("engine bf16", 1.0, p50_ms=1.0)],
    }
    rows = target_rows(found)
    assert [row[1:] for row in rows] == [
        ("at least 1,200,000", "1,200,000", "yes"),
        ("at least 55.0%", "50.0%", "no"),
        ("at least 1.50", "1.60", "yes"),
        ("< 1.000", "1.000", "no"),
        ("at least 60.0%", "not measured", "-"),
    ]


def test_every_target_is_measured():
    measured = {(case.variant, work) for case in FULL for work in case.work if "bf16" in case.precisions}
    assert {(target.model, target.work) for target in TARGETS} <= measured
    assert LARGE_BATCH.name == "256x128"
    assert Work(uniform(2, 3), pooled_only=False).name == "2x3, all outputs"


def test_kernels_are_added_up_from_ncus_csv():
    printed = """\
==PROF== Connected to process 1
some program's "words"
"ID","Kernel Name","Device","Grid Size","gpu__time_duration.sum"
"","","","","ns"
"0","attention_kernel","0","(64, 12, 1)","900"
"1","linear_kernel","0","(2304, 1, 1)","1,500"
"2","linear_kernel","0","(1536, 1, 1)","700"
"3","linear_kernel","0","(2304, 1, 1)","500.5"
==PROF== Disconnected
"""
    times = kernel_times(printed.splitlines())
    assert times == [
        KernelTime("linear_kernel", "(2304, 1, 1)", 1, 2, 2000.5),
        KernelTime("attention_kernel", "(64, 12, 1)", 0, 1, 900.0),
        KernelTime("linear_kernel", "(1536, 1, 1)", 2, 1, 700.0),
    ]
    assert "| linear_kernel | (2304, 1, 1) | 2 | 2.0 | 55.6 % |" in markdown(times)
    assert kernel_times(["==ERROR== no permission"]) == []


@pytest.mark.parametrize(
    ("precision", "errors", "held"),
    [
        ("fp32", Errors(9e-5, 1e-5, 0.0, 1.0, 1.0), True),
        ("fp32", Errors(2e-4, 1e-5, 0.0, 1.0, 1.0), False),
        ("tf32", Errors(1.0, 1.0, 1.0, 0.9991, 0.9991), True),
        ("bf16", Errors(1.0, 1.0, 1.0, 0.9989, 0.9999), False),
        ("int8", Errors(1.0, 1.0, 1.0, 0.9, 0.991), True),
        ("int8", Errors(1.0, 1.0, 1.0, 0.9, 0.989), False),
    ],
)
def test_fidelity_allows_what_the_export_allows(precision, errors, held):
    assert allowed(precision).hold(errors) is held
    assert re.fullmatch(r".*\d.*", str(allowed(precision)))
