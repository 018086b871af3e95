"""A forked child has its parent's memory, not its threads: it answers, or says at once why it cannot."""

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pytest

from albert_runtime import BackendError, Predictor

TINY = Path(__file__).parents[1] / "data" / "artifacts" / "schema-1"
IDS = {"input_ids": [[2, 5, 6, 7, 3, 9, 4, 8]] * 50}
PATIENCE = 60.0
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def in_child(check):
    """Run ``check`` in a forked child; its failure, or that it hangs, fails the test."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            check()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    end = time.monotonic() + PATIENCE
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.005)
    assert os.waitstatus_to_exitcode(ended[1]) == 0


@pytest.fixture
def busy():
    """busy(work): two threads do that again and again until the test ends."""
    stop, threads = threading.Event(), []

    def start(work):
        def again():
            while not stop.is_set():
                work()

        for _ in range(2):
            threads.append(threading.Thread(target=again))
            threads[-1].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join()


TOKENIZED = """
import os, signal, sys
from albert_runtime import Predictor
predictor = Predictor(sys.argv[1], backend="native")
texts = ["a b c", "c", ("b a", "c")] * 40
def answers():
    return [predictor.run(texts)["pooled_output"].tobytes(), predictor.count_tokens(["a", "b c"]),
            predictor.embed(texts).tobytes()]
expected = answers()
child = os.fork()
if child == 0:
    signal.alarm(40)
    assert answers() == expected
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("parallel", ["true", "false", None])
def test_texts_after_texts_were_tokenized(make_artifact, tokenizer_file, parallel):
    """With "true" the library would wait for threads that only its parent has."""
    variables = {**os.environ, "RAYON_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": str(parallel)}
    if parallel is None:
        del variables["TOKENIZERS_PARALLELISM"]
    command = [sys.executable, "-W", "ignore", "-c", TOKENIZED, str(make_artifact(tokenizer=tokenizer_file))]
    ran = subprocess.run(
        command, env=variables, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ran.stdout == "0\n", ran.stderr


def test_texts_while_other_threads_tokenize(make_artifact, tokenizer_file, busy):
    predictor = Predictor(make_artifact(tokenizer=tokenizer_file), backend="native")
    texts = ["a b c", "c"] * 20
    expected = predictor.run(texts)["pooled_output"]

    def check():
        np.testing.assert_array_equal(predictor.run(texts)["pooled_output"], expected)

    with predictor._model.encoder._lock:  # as if another thread were loading the tokenizer
        in_child(check)
    busy(lambda: predictor.run(texts))
    for _ in range(10):
        in_child(check)


def test_errors_of_texts_in_a_child_name_the_row(make_artifact, tokenizer_file):
    predictor = Predictor(make_artifact(tokenizer=tokenizer_file), backend="native")
    predictor.run(["a"])

    def check():
        with pytest.raises(ValueError, match="row 1 is no valid Unicode"):
            predictor.run(["a", "\ud800"])

    in_child(check)


def test_the_engine_while_other_threads_run_it(busy):
    predictor = Predictor(TINY, backend="native", num_threads=2)
    expected = predictor.run(IDS)["pooled_output"]

    def check():
        np.testing.assert_array_equal(predictor.run(IDS)["pooled_output"], expected)
        np.testing.assert_array_equal(predictor.submit(IDS).result(30)["pooled_output"], expected)

    busy(lambda: predictor.submit(IDS).result())
    busy(lambda: predictor.run(IDS))
    for _ in range(10):
        in_child(check)


@pytest.mark.parametrize("name", ["onnxruntime", "paddle"])
def test_libraries_that_do_not_survive_a_fork(name, busy):
    pytest.importorskip(name)
    predictor = Predictor(TINY, backend=name, num_threads=2)
    expected = predictor.run(IDS)

    def check():
        for answer in (lambda: predictor.run(IDS), lambda: predictor.submit(IDS).result(30)):
            with pytest.raises(BackendError, match="a forked process cannot use its parent's "):
                answer()

    busy(lambda: predictor.run(IDS))
    for _ in range(3):
        in_child(check)
    assert list(predictor.run(IDS)) == list(expected)


def test_a_child_may_load_what_it_cannot_share():
    pytest.importorskip("onnxruntime")
    predictor = Predictor(TINY, backend="onnxruntime", num_threads=1)
    expected = predictor.run(IDS)["pooled_output"]

    def check():
        again = Predictor(TINY, backend="onnxruntime", num_threads=1)
        np.testing.assert_array_equal(again.run(IDS)["pooled_output"], expected)

    in_child(check)


def test_requests_of_the_parent_fail_in_the_child(make_artifact, monkeypatch):
    predictor, opened, called = Predictor(make_artifact(), backend="native"), threading.Event(), []
    run = predictor.scheduler.run
    monkeypatch.setattr(predictor.scheduler, "run", lambda *call: opened.wait(PATIENCE) and run(*call))
    futures = [predictor.submit([[number]]) for number in (1, 2, 3)]
    futures[2].add_done_callback(called.append)

    def check():
        assert wait(futures, 10).done == set(futures)
        for future in futures:
            with pytest.raises(BackendError, match="the request is the parent's; submit it again"):
                future.result()
        assert not called
        opened.set()
        assert predictor.submit([[1]]).result(30)

    in_child(check)
    assert not any(future.done() for future in futures)
    opened.set()
    for number, future in zip((1, 2, 3), futures, strict=True):
        answer = future.result(PATIENCE)["pooled_output"]
        np.testing.assert_array_equal(answer, predictor.run([[number]])["pooled_output"])
    assert called == [futures[2]]
