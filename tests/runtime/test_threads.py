"""How many threads a Predictor takes: the argument, OMP_NUM_THREADS, or the CPUs there are."""

import os
import subprocess
import sys

import pytest

from albert_runtime import Predictor, threads
from albert_runtime.threads import available_cpus


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch):
    monkeypatch.setattr(threads, "available_cpus", lambda: 8)
    monkeypatch.setattr(threads, "_set_by_paddle", lambda: False)
    threads._read_omp_num_threads.cache_clear()


def chosen(path, monkeypatch, value, **options):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    info = Predictor(path, backend="native", **options).info()
    return info["num_threads"], info["num_threads_from"]


@pytest.mark.parametrize(
    ("value", "count"), [("1", 1), ("3", 3), (" 4 ", 4), ("+2", 2), ("4,2", 4), ("2, 1 ,1", 2), ("007", 7)]
)
def test_openmps_own_syntax(make_artifact, monkeypatch, caplog, value, count):
    assert chosen(make_artifact(), monkeypatch, value) == (count, "OMP_NUM_THREADS")
    assert not caplog.records


@pytest.mark.parametrize("value", ["9", "64,2", "9999999999"])
def test_no_more_than_the_cpus(make_artifact, monkeypatch, value):
    assert chosen(make_artifact(), monkeypatch, value) == (8, "available CPUs")


@pytest.mark.parametrize("value", ["many", "0", "-2", "2.5", "4,x", "4,", ",4", "\u0664", "1_0"])
def test_what_is_no_number_is_ignored_with_one_warning(make_artifact, monkeypatch, caplog, value):
    path = make_artifact()
    for _ in range(2):
        assert chosen(path, monkeypatch, value) == (8, "available CPUs")
    (record,) = caplog.records
    assert record.getMessage() == f"OMP_NUM_THREADS is {value!r}, no number of threads; it is ignored"


def test_empty_is_unset(make_artifact, monkeypatch, caplog):
    assert chosen(make_artifact(), monkeypatch, "") == (8, "available CPUs")
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert Predictor(make_artifact(), backend="native").info()["num_threads"] == 8
    assert not caplog.records


def test_the_argument_goes_first(make_artifact, monkeypatch):
    assert chosen(make_artifact(), monkeypatch, "2", num_threads=3) == (3, "num_threads")


SCRIPT = """
import sys
from albert_runtime import Predictor
{before}
info = Predictor(sys.argv[1], backend="native").info()
print(info["num_threads"], info["num_threads_from"])
"""


def in_a_process(path, before="", **variables):
    kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT.format(before=before), str(path)]
    ran = subprocess.run(command, env={**kept, **variables}, capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def test_affinity_bounds_it(make_artifact):
    pin = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    assert in_a_process(make_artifact(), pin, OMP_NUM_THREADS="2") == "1 available CPUs"


def test_what_paddle_sets_is_no_wish(make_artifact):
    """Importing it sets OMP_NUM_THREADS to 1 where nobody has."""
    pytest.importorskip("paddle")
    path = make_artifact()
    imported = "import paddle, os; assert os.environ['OMP_NUM_THREADS'] == '1'"
    assert in_a_process(path, imported) == f"{available_cpus()} available CPUs"
    assert in_a_process(path, imported, OMP_NUM_THREADS="1") == "1 OMP_NUM_THREADS"


def test_the_paddle_backend_leaves_it_unset(golden):
    pytest.importorskip("paddle")
    tiny = golden.parent / "artifacts" / "schema-1"
    loaded = f"import os; Predictor({str(tiny)!r}, backend='paddle'); print('OMP_NUM_THREADS' in os.environ)"
    assert in_a_process(tiny, loaded).startswith("False\n")
