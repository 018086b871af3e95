"""Many callers, one engine: joined requests, whose bits do not change, and those that are dropped."""

import asyncio
import gc
import os
import threading
import time
import weakref
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_runtime import BackendError, DeadlineExceeded, InputError, Overloaded, Predictor
from albert_runtime.batch import Limits
from albert_runtime.batching import Batcher, Request
from albert_runtime.batching.waiting import Waiting
from albert_runtime.packing import pack

LIMITS = Limits(vocab_size=50, type_vocab_size=2, max_position_embeddings=10)


@pytest.fixture
def predictor(make_artifact):
    with Predictor(make_artifact(), max_batch_tokens=24) as found:
        yield found


def assert_equal(answer, expected):
    assert list(answer) == list(expected)
    for name, values in expected.items():
        assert answer[name].dtype == np.float32 and answer[name].shape == values.shape
        assert np.array_equal(answer[name], values), name


def batches(count, seed=0):
    """Of every form: ragged, padded wider than their rows, with holes and masked first positions."""
    generator = np.random.default_rng(seed)
    found = []
    for index in range(count):
        rows, width = int(generator.integers(1, 5)), int(generator.integers(1, 11))
        ids = generator.integers(1, 50, (rows, width))
        if index % 3 == 0:
            found.append([list(row[: generator.integers(1, width + 1)]) for row in ids])
            continue
        mask = generator.integers(0, 2, (rows, width))
        mask[:, int(generator.integers(0, width))] = 1
        found.append({"input_ids": ids, "attention_mask": mask if index % 3 == 1 else np.ones_like(mask)})
    return found


@pytest.fixture
def gate(predictor, monkeypatch):
    """Holds the batcher's passes up until it is opened, and counts them."""
    run, opened = predictor.batcher.run, threading.Event()

    class Gate:
        def open(self):
            opened.set()

        def wait_for_pass(self):
            until = time.monotonic() + 10
            while not self.passes and time.monotonic() < until:
                time.sleep(0.001)

    gate = Gate()
    gate.passes = []

    def held(batch, outputs, score_tokens):
        gate.passes.append(batch)
        opened.wait(10)
        return run(batch, outputs, score_tokens)

    monkeypatch.setattr(predictor.batcher, "run", held)
    yield gate
    opened.set()


# Results


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

    batcher = Batcher(
        run,
        max_batch_tokens=tokens,
        max_queue=1000,
        max_queue_delay=0.0,
        padded=bool(seed % 2),
        patience=patience,
        is_per_token=lambda name: name == "last_hidden_state",
    )
    packed = [pack(batch, LIMITS) for batch in batches(15, seed)]
    futures = [batcher.submit(Request(batch, ("last_hidden_state", "pooled_output"))) for batch in packed]
    for batch, future in zip(packed, futures, strict=True):
        assert_equal(future.result(10), run(batch, (), None))
    batcher.close()
    assert batcher.unanswered == 0


def test_positions_of_several_requests(make_artifact, monkeypatch):
    predictor = Predictor(make_artifact(task="masked-lm"), max_batch_tokens=30)
    release = threading.Event()
    run = predictor.batcher.run
    monkeypatch.setattr(predictor.batcher, "run", lambda *call: release.wait(10) and run(*call))
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


# Callers


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
            assert predictor.batcher.unanswered == 0
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


# Order


def order(requests, patience, budget=10):
    """The lengths of the rows in the order they are taken, of requests (moment, lengths of rows)."""
    waiting = Waiting(100, budget, patience, padded=False)
    waiting.ran(100, 1.0)  # 10 ms a token
    for moment, lengths in requests:
        batch = pack([[1] * length for length in lengths], LIMITS)
        waiting.add(Request(batch, ("pooled_output",), arrived=moment), "kind")
    taken = []
    while waiting:
        taken.append([part.tokens for part in waiting.take()])
    return taken


def test_first_come_first_served_without_patience():
    assert order([(0, [9]), (1, [3]), (2, [9]), (3, [1])], 0.0) == [[9], [3], [9, 1]]


def test_short_ones_pass_long_ones():
    assert order([(0, [9]), (0.01, [3]), (0.02, [9]), (0.03, [1])], 10.0) == [[1, 3], [9], [9]]


def test_long_ones_age():
    """9 tokens at 10 ms with patience 2 let pass those that came up to 0.18 s later, less their own 0.02."""
    assert order([(0, [9]), (0.15, [1])], 2.0, budget=9) == [[1], [9]]
    assert order([(0, [9]), (0.17, [1])], 2.0, budget=9) == [[9], [1]]


def test_long_requests_yield_between_their_parts():
    assert order([(0, [9, 9, 9]), (0.2, [2])], 2.0, budget=9) == [[9], [2], [9], [9]]


def test_what_cannot_run_together_does_not():
    waiting = Waiting(100, 10, 0.0, padded=False)
    for moment, kind in enumerate("abab"):
        waiting.add(Request(pack([[1]], LIMITS), ("pooled_output",), arrived=moment), kind)
    assert [len(waiting.take()) for _ in range(2)] == [2, 2] and not waiting


def test_padded_passes_are_bounded_with_their_padding():
    waiting = Waiting(100, 10, 0.0, padded=True)
    for length in (5, 4, 1):
        waiting.add(Request(pack([[1] * length], LIMITS), ("pooled_output",)), "kind")
    assert [[part.width for part in waiting.take()] for _ in range(2)] == [[5, 4], [1]]


def test_the_pace_is_learned(predictor):
    assert predictor.batcher._waiting.pace == 0
    predictor.submit([[1, 2, 3]]).result(10)
    predictor.close()
    assert predictor.batcher._waiting.pace > 0


def test_a_delay_gathers(make_artifact):
    with Predictor(make_artifact(), max_queue_delay=0.5) as predictor:
        passes = []
        predictor.batcher.observers.append(passes.append)
        first = predictor.submit([[1, 2, 3]])
        second = predictor.submit([[4]])
        first.result(10), second.result(10)
        assert [(one.rows, one.tokens, one.padded_tokens) for one in passes] == [(2, 4, 6)]
        assert min(passes[0].waited) > 0.2 and passes[0].seconds > 0


# Bad requests, full queues, and callers who go


def test_a_bad_request_fails_alone(predictor):
    good = predictor.submit([[1, 2]])
    with pytest.raises(InputError, match="row 0, column 1: input_ids holds 70"):
        predictor.submit([[1, 70]])
    assert_equal(good.result(10), predictor.run([[1, 2]]))


def test_what_fails_in_the_backend_fails_alone(predictor, gate, monkeypatch):
    run = predictor.batcher.run

    def failing(batch, outputs, score_tokens):
        if 13 in batch.input_ids:
            raise BackendError("unlucky")
        return run(batch, outputs, score_tokens)

    monkeypatch.setattr(predictor.batcher, "run", failing)
    futures = [predictor.submit([[number]]) for number in (1, 12, 13, 14)]
    gate.open()
    for number, future in zip((1, 12, 13, 14), futures, strict=True):
        if number == 13:
            with pytest.raises(BackendError, match="unlucky"):
                future.result(10)
        else:
            assert_equal(future.result(10), predictor.run([[number]]))
    assert predictor.batcher.unanswered == 0


def test_an_observer_that_fails_harms_nobody(predictor, caplog):
    predictor.batcher.observers.append(lambda done: 1 / 0)
    for _ in range(2):
        assert_equal(predictor.submit([[1, 2]]).result(10), predictor.run([[1, 2]]))
    predictor.close()
    assert caplog.text.count("ZeroDivisionError") == 2


def test_a_full_queue(make_artifact, monkeypatch):
    with Predictor(make_artifact(), max_queue=3) as predictor:
        release = threading.Event()
        run = predictor.batcher.run
        monkeypatch.setattr(predictor.batcher, "run", lambda *call: release.wait(10) and run(*call))
        futures = [predictor.submit([[1]]) for _ in range(3)]
        with pytest.raises(Overloaded, match="3 requests wait already, as many as max_queue allows"):
            predictor.submit([[2]])
        assert futures[2].cancel()  # makes room
        later = predictor.submit([[2]])
        release.set()
        assert_equal(later.result(10), predictor.run([[2]]))
        assert_equal(futures[1].result(10), predictor.run([[1]]))
        assert predictor.batcher.unanswered == 0


def test_cancelled_and_expired_requests_cost_nothing(predictor, gate):
    predictor.submit([[1]])
    gate.wait_for_pass()
    cancelled = predictor.submit([[2]])
    expired = predictor.submit([[3]], timeout=0.01)
    kept = predictor.submit([[4]], timeout=10)
    assert cancelled.cancel()
    time.sleep(0.05)
    gate.open()
    assert_equal(kept.result(10), predictor.run([[4]]))
    with pytest.raises(DeadlineExceeded, match=r"its time was up after 0\.\d+ s in the queue"):
        expired.result(10)
    with pytest.raises(CancelledError):
        cancelled.result(10)
    computed = {int(ids) for batch in gate.passes for ids in batch.input_ids}
    assert computed == {1, 4} and predictor.batcher.unanswered == 0


def test_a_cancelled_task_costs_nothing(predictor, gate):
    async def ask():
        first = asyncio.ensure_future(predictor.arun([[1]]))
        while not gate.passes:
            await asyncio.sleep(0.001)
        second = asyncio.ensure_future(predictor.arun([[2]]))
        while predictor.batcher.unanswered < 2:
            await asyncio.sleep(0.001)
        second.cancel()
        third = asyncio.ensure_future(predictor.arun([[3]]))
        third.cancel()  # before it was submitted
        await asyncio.sleep(0.05)
        gate.open()
        return await first

    asyncio.run(ask())
    predictor.close()
    assert [batch.input_ids.tolist() for batch in gate.passes] == [[1]]


def test_close_answers_what_was_accepted(predictor, gate):
    futures = [predictor.submit([[number]]) for number in range(1, 30)]
    threading.Timer(0.05, gate.open).start()
    predictor.close()
    assert all(future.done() for future in futures)
    with pytest.raises(Overloaded, match="this predictor is closed"):
        predictor.submit([[1]])
    assert predictor.run([[1]])


def test_a_predictor_nobody_holds_goes_with_its_thread(make_artifact):
    predictor = Predictor(make_artifact())
    predictor.submit([[1]]).result(10)
    thread, gone = predictor.batcher._thread, weakref.ref(predictor)
    del predictor
    gc.collect()
    thread.join(10)
    assert gone() is None and not thread.is_alive()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_batch_tokens": 0}, "max_batch_tokens is 0; give a whole number from 1"),
        ({"max_queue": 1.5}, "max_queue is 1.5; give a whole number from 1"),
        ({"max_queue_delay": -1}, "max_queue_delay is -1; give seconds from 0 to 60"),
    ],
)
def test_bad_options(make_artifact, options, message):
    with pytest.raises(BackendError, match=message):
        Predictor(make_artifact(), **options)
