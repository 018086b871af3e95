"""Many callers, one engine: joined requests, whose bits do not change."""

import asyncio
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_runtime import InputError, Predictor
from albert_runtime.batch.pack import pack
from albert_runtime.scheduler.requests import Request
from albert_runtime.scheduler.scheduler import Scheduler

from .conftest import LIMITS, assert_equal, batches


def test_the_results_of_run(predictor):
    for batch in batches(12):
        assert_equal(predictor.submit(batch).result(10), predictor.run(batch))
        assert_equal(
            predictor.submit(batch, ["pooled_output"]).result(10), predictor.run(batch, ["pooled_output"])
        )


def test_joined_with_others_the_bits_are_the_same(predictor, gate):
    wanted = batches(40)
    outputs = [None if index % 4 else ["pooled_output"] for index in range(len(wanted))]
    futures = [predictor.submit(batch, names) for batch, names in zip(wanted, outputs, strict=True)]
    gate.open()
    for batch, names, future in zip(wanted, outputs, futures, strict=True):
        assert_equal(future.result(10), predictor.run(batch, names))
    assert len(gate.passes) < len(wanted) and max(batch.shape[0] for batch in gate.passes) > 4
    assert all(batch.tokens <= 24 for batch in gate.passes)  # longer requests in parts
    assert any(batch.tokens > 24 for batch in (pack(one, LIMITS) for one in wanted))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), tokens=st.integers(1, 60), patience=st.sampled_from([0.0, 4.0, 100.0]))
def test_any_load_any_budget(seed, tokens, patience):
    """Every accepted request is answered once with its own rows, whatever runs beside it."""
    runs = []

    def run(batch, outputs, score_tokens):
        runs.append(batch.tokens)
        rows, width = batch.shape
        hidden = np.zeros((rows, width, 1), np.float32)
        row = np.repeat(np.arange(rows), np.diff(batch.row_starts))
        hidden[row, batch.positions, 0] = batch.input_ids
        return {"last_hidden_state": hidden, "pooled_output": hidden[:, :1, 0] * 2}

    scheduler = Scheduler(
        run,
        max_batch_tokens=tokens,
        max_queue=1000,
        max_queue_delay=0.0,
        padded=bool(seed % 2),
        patience=patience,
        is_per_token=lambda name: name == "last_hidden_state",
    )
    packed = [pack(batch, LIMITS) for batch in batches(15, seed)]
    futures = [scheduler.submit(Request(batch, ("last_hidden_state", "pooled_output"))) for batch in packed]
    for batch, future in zip(packed, futures, strict=True):
        assert_equal(future.result(10), run(batch, (), None))
    scheduler.close()
    assert scheduler.unanswered == 0


def test_positions_of_several_requests(make_artifact, monkeypatch):
    predictor = Predictor(make_artifact(task="masked-lm"), max_batch_tokens=30)
    release = threading.Event()
    run = predictor.scheduler.run
    monkeypatch.setattr(predictor.scheduler, "run", lambda *call: release.wait(10) and run(*call))
    asked = [([[4, 5, 6], [7, 8]], [[0, 2], [1]]), ([[9] * 9], [[8, 3]]), ([[1, 2]], None), ([[3]], [[0]])]
    futures = [predictor.submit(batch, positions=positions) for batch, positions in asked]
    release.set()
    for (batch, positions), future in zip(asked, futures, strict=True):
        assert_equal(future.result(10), predictor.run(batch, positions=positions))
    predictor.close()


def test_questions_of_several_choices(make_artifact):
    with Predictor(make_artifact(task="multiple-choice"), max_batch_tokens=8) as predictor:
        asked = [[[[1, 2], [3, 4, 5]], [[6], [7, 8]]], [[[9, 9]]], [[[1], [2], [3]]] * 4]
        futures = [predictor.submit(questions) for questions in asked]
        for questions, future in zip(asked, futures, strict=True):
            assert_equal(future.result(10), predictor.run(questions))


def test_other_backends_and_programs_without_manifest(export_artifact, golden, tmp_path):
    program = export_artifact(golden / "model-gelu")
    rows = [[[5, 6, 7], [8]], [[9] * 20], [[3, 4]]]
    with Predictor(program, backend="onnxruntime") as predictor:
        for batch, future in [(batch, predictor.submit(batch)) for batch in rows]:
            for name, values in predictor.run(batch).items():
                np.testing.assert_allclose(future.result(10)[name], values, atol=2e-5)


def test_many_threads(predictor):
    wanted = batches(60)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda batch: predictor.submit(batch).result(10), wanted))
    for batch, answer in zip(wanted, answers, strict=True):
        assert_equal(answer, predictor.run(batch))


def test_asyncio(predictor):
    wanted = batches(30)

    async def ask():
        return await asyncio.gather(*(predictor.arun(batch) for batch in wanted))

    for batch, answer in zip(wanted, asyncio.run(ask()), strict=True):
        assert_equal(answer, predictor.run(batch))


def test_astream_is_stream(make_artifact, tokenizer_file):
    with Predictor(make_artifact(tokenizer=tokenizer_file)) as predictor:
        texts = ["a b", "c", "b a c a"] * 40

        async def ask():
            return [vector async for vector in predictor.astream("embed", texts)]

        assert np.array_equal(asyncio.run(ask()), predictor.embed(texts))
        with pytest.raises(InputError, match="row 1 is an empty text"):
            asyncio.run(anext(predictor.astream("embed", ["a", " "])))


def test_a_forked_child_begins_anew(predictor, gate):
    """Though the parent's thread is in the middle of a pass, and others wait."""
    held = [predictor.submit([[1, 2]]) for _ in range(3)]
    gate.wait_for_pass()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            gate.open()
            assert predictor.scheduler.unanswered == 0
            answer = predictor.submit([[4, 5, 6]]).result(10)
            code = (
                0
                if np.array_equal(answer["pooled_output"], predictor.run([[4, 5, 6]])["pooled_output"])
                else 2
            )
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gate.open()
    for future in held:
        assert_equal(future.result(10), predictor.run([[1, 2]]))


def answer_of(path, batch):
    with Predictor(path) as predictor:
        return predictor.submit(batch).result(60)


def test_spawned_workers_answer_with_the_same_bits(make_artifact):
    path, wanted = make_artifact(), batches(4)
    predictor = Predictor(path)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for batch, answer in zip(wanted, pool.map(answer_of, [path] * 4, wanted), strict=True):
            assert_equal(answer, predictor.run(batch))


def test_the_pace_is_learned(predictor):
    assert predictor.scheduler._queue.seconds_per_token == 0
    predictor.submit([[1, 2, 3]]).result(10)
    predictor.close()
    assert predictor.scheduler._queue.seconds_per_token > 0


def test_a_delay_gathers(make_artifact):
    with Predictor(make_artifact(), max_queue_delay=0.5) as predictor:
        passes = []
        predictor.scheduler.observers.append(passes.append)
        first = predictor.submit([[1, 2, 3]])
        second = predictor.submit([[4]])
        first.result(10), second.result(10)
        assert [(one.rows, one.tokens, one.padded_tokens) for one in passes] == [(2, 4, 6)]
        assert min(passes[0].waited) > 0.2 and passes[0].seconds > 0
