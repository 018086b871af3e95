"""Batches, errors, tolerance."""

from dataclasses import replace

import numpy as np
import pytest

from albert_export import verify
from albert_export.errors import ExportError
from albert_export.variants import VARIANTS
from albert_runtime.artifact.tasks import TASKS, Head

BARE = Head()


def test_batches_are_padded_valid_and_seeded():
    config = VARIANTS["albert-base-v2"]
    batches = verify.make_batches(config, BARE)
    assert [batch["input_ids"].shape for batch in batches] == [(1, 72), (6, 40), (4, 24)]
    for batch, again in zip(batches, verify.make_batches(config, BARE), strict=True):
        mask = batch["attention_mask"]
        assert all(value.dtype == np.int64 for value in batch.values())
        assert all(np.array_equal(batch[name], again[name]) for name in batch)
        assert (batch["input_ids"][mask == 0] == config.pad_token_id).all()
        assert batch["input_ids"].max() < config.vocab_size
        assert batch["input_ids"][0, 2] == 0 and mask[0, 2] == 1
        assert set(np.unique(batch["token_type_ids"])) == {0, 1}
    lengths = batches[-1]["attention_mask"].sum(1)
    assert len(set(lengths)) == 4 and lengths.min() >= 1


@pytest.mark.parametrize("positions", [1, 2, 30])
def test_batches_respect_the_positions(tiny, positions):
    for batch in verify.make_batches(
        replace(tiny, max_position_embeddings=positions, padding_idx=None), BARE
    ):
        assert batch["input_ids"].shape[1] <= positions
        assert (batch["attention_mask"].sum(1) >= 1).all()


def test_batches_of_multiple_choice_are_the_same_rows(tiny):
    flat, grouped = verify.make_batches(tiny, BARE), verify.make_batches(tiny, Head.of("multiple-choice"))
    assert [batch["input_ids"].shape for batch in grouped] == [(1, 1, 40), (3, 2, 40), (2, 2, 24)]
    for one, other in zip(flat, grouped, strict=True):
        assert all(np.array_equal(one[name], other[name].reshape(one[name].shape)) for name in one)


@pytest.fixture
def answers(tiny):
    batches = verify.make_batches(tiny, BARE)
    generator = np.random.default_rng(0)
    reference = [
        {
            "last_hidden_state": generator.normal(size=(*batch["input_ids"].shape, 12)),
            "pooled_output": generator.normal(size=(len(batch["input_ids"]), 12)),
        }
        for batch in batches
    ]
    return batches, reference


def copy(answers):
    return [{name: value.astype(np.float32) for name, value in one.items()} for one in answers]


def test_equal_answers(answers):
    batches, reference = answers
    for errors in verify.measure(reference, copy(reference), batches, BARE).values():
        assert (
            errors.max_abs < 1e-6 and errors.max_rel < 1e-6 and errors.cosine == pytest.approx(1, abs=1e-12)
        )


def test_an_error_at_one_unmasked_place_counts_and_a_masked_one_does_not(answers):
    batches, reference = answers
    wrong = copy(reference)
    wrong[-1]["last_hidden_state"][3, 0, 5] += 0.5
    wrong[-1]["last_hidden_state"][3, 20] = np.nan
    errors = verify.measure(reference, wrong, batches, BARE)
    assert errors["last_hidden_state"].max_abs == pytest.approx(0.5, rel=1e-5)
    assert errors["last_hidden_state"].cosine < 0.999
    assert errors["pooled_output"].max_abs < 1e-6


def test_the_error_of_eager_float32(answers):
    batches, reference = answers
    answer = copy(reference)
    answer[0]["pooled_output"][0, 0] += 1e-3
    eager = verify.eager_float32_errors(reference, answer, batches, BARE)
    assert eager.max_abs == pytest.approx(1e-3, rel=1e-3)
    assert eager.typical_abs < 1e-6  # one row of eleven
    for value in (1.0, np.inf, np.nan):
        answer[0]["pooled_output"][0, 0] = value
        with pytest.raises(ExportError, match="float32 is not enough for this model"):
            verify.eager_float32_errors(reference, answer, batches, BARE)


def task_answers(tiny, head):
    """Made-up outputs of a task for the verification's batches."""
    generator = np.random.default_rng(0)
    inner = {"prediction_scores": (60,), "last_hidden_state": (12,), "pooled_output": (12,)}
    batches, reference = verify.make_batches(tiny, head), []
    for batch in batches:
        shape = batch["input_ids"].shape
        shapes = {"sop_logits": (shape[0], 2), "pooled_output": (shape[0], 12)}
        shapes["logits"] = {
            "token-classification": (*shape, 3),
            "multiple-choice": shape[:2],
        }.get(head.task, (shape[0], 3))
        reference.append(
            {
                name: generator.normal(size=shapes.get(name, (*shape, *inner.get(name, ()))))
                for name in head.outputs(tiny)
            }
        )
    return batches, reference


@pytest.mark.parametrize("task", TASKS)
def test_outputs_per_token_count_where_unmasked_and_others_everywhere(tiny, task):
    head = Head.of(task, num_labels=3)
    batches, reference = task_answers(tiny, head)
    mask = batches[1]["attention_mask"]
    for name in reference[1]:
        per_token = name in ("last_hidden_state", "prediction_scores", "start_logits", "end_logits")
        wrong = copy(reference)
        if per_token or task == "token-classification":
            wrong[1][name][mask == 0] = -10000.0
            errors = verify.measure(reference, wrong, batches, head)[name]
            assert errors.max_abs < 1e-6 and errors.cosine == pytest.approx(1, abs=1e-12)
            wrong[1][name][2, 7] += 0.25
        else:
            wrong[1][name][-1, -1] += 0.25
        errors = verify.measure(reference, wrong, batches, head)
        assert errors.pop(name).max_abs == pytest.approx(0.25, rel=1e-5)
        assert all(other.max_abs < 1e-6 for other in errors.values())


@pytest.mark.parametrize("damage", ["nan", "shape", "missing", "reference"])
def test_damaged_answers_are_infinitely_wrong(answers, damage):
    batches, reference = answers
    wrong = copy(reference)
    if damage == "reference":
        reference[1]["pooled_output"][0, 0] = np.nan
    elif damage == "nan":
        wrong[0]["pooled_output"][0, 0] = np.nan
    elif damage == "shape":
        wrong[0]["pooled_output"] = wrong[0]["pooled_output"][:, :5]
    else:
        del wrong[0]["pooled_output"]
    assert verify.measure(reference, wrong, batches, BARE)["pooled_output"].max_abs == float("inf")


def test_the_typical_error_is_that_of_most_tokens(answers):
    batches, reference = answers
    wrong = copy(reference)
    wrong[0]["last_hidden_state"] += 1e-3
    wrong[1]["last_hidden_state"] += 1e-3
    wrong[0]["last_hidden_state"][0, 3, 4] += 1.0
    errors = verify.measure(reference, wrong, batches, BARE)["last_hidden_state"]
    assert errors.typical_abs == pytest.approx(1e-3, rel=1e-2)
    assert errors.max_abs == pytest.approx(1.0, rel=1e-2)


def test_tolerance_and_record():
    assert verify.tolerance(verify.Bounds(1e-6, 1e-7)) == verify.Bounds(2e-5, 2e-5)
    allowed = verify.tolerance(verify.Bounds(1e-3, 1e-4))
    assert allowed == verify.Bounds(16e-3, 4e-4)
    assert allowed.hold(verify.Errors(16e-3, 4e-4, 1.0, 0.0, 1.0))
    assert not allowed.hold(verify.Errors(17e-3, 1e-4, 1e-9, 1.0, 1.0))
    assert not allowed.hold(verify.Errors(1e-3, 5e-4, 1e-9, 1.0, 1.0))
    assert not allowed.hold(verify.Errors(float("nan"), 0.0, 0.0, 1.0, 1.0))
    errors = verify.Errors(1e-6, 2e-7, 1e-7, 1.0, 1.0)
    results = {"native": {"pooled_output": errors}}
    reasons = {"paddle": "no bfloat16 here"}
    narrow = verify.record(verify.Bounds(1e-3, 1e-4), verify.Likeness(0.999), results, results, reasons)
    assert narrow["least_cosine"] == 0.999 and "tolerance" not in narrow
    assert narrow["depths"] == narrow["backends"] and narrow["left_out"] == reasons
    record = verify.record(verify.Bounds(1e-3, 1e-4), allowed, results, {}, {})
    assert record == {
        "reference": "paddle eager float64",
        "tolerance": 16e-3,
        "typical_tolerance": 4e-4,
        "eager_float32_max_abs": 1e-3,
        "eager_float32_typical_abs": 1e-4,
        "backends": {
            "native": {
                "pooled_output": {
                    "max_abs": 1e-6,
                    "typical_abs": 2e-7,
                    "max_rel": 1e-7,
                    "cosine": 1.0,
                    "typical_cosine": 1.0,
                }
            }
        },
    }


def test_sixteen_bits_are_held_to_a_direction():
    allowed = verify.Likeness(0.999)
    assert allowed.hold(verify.Errors(5.0, 1.0, 1.0, 0.9991, 1.0))
    assert not allowed.hold(verify.Errors(1e-9, 1e-9, 1e-9, 0.9989, 1.0))
    assert not allowed.hold(verify.Errors(0.0, 0.0, 0.0, float("nan"), 1.0))
    typical = verify.Likeness(0.99, typical=True)
    assert typical.hold(verify.Errors(5.0, 1.0, 1.0, 0.5, 0.991))
    assert not typical.hold(verify.Errors(1e-9, 1e-9, 1e-9, 1.0, 0.989))


def test_answers_survive_the_file(tmp_path, answers):
    _, reference = answers
    verify.save_answers(tmp_path / "a.npz", reference)
    for one, again in zip(reference, verify.load_answers(tmp_path / "a.npz"), strict=True):
        assert one.keys() == again.keys()
        assert all(np.array_equal(one[name], again[name]) for name in one)


def noisy_classifier(columns, noise, seed, task="token-classification"):
    """A linear map of random states of 768, and of the same with independent errors of that share."""
    generator = np.random.default_rng(seed)
    head = Head.of(task, num_labels=columns)
    batches = verify.make_batches(VARIANTS["albert-base-v2"], head)
    weight = generator.normal(0, 0.02, (768, columns))
    reference, answers = [], []
    for batch in batches:
        shape = batch["input_ids"].shape[: 2 if task == "token-classification" else 1]
        states = generator.normal(size=(*shape, 768))
        reference.append({"logits": states @ weight})
        answers.append({"logits": (states + noise * generator.normal(size=states.shape)) @ weight})
    return verify.measure(reference, answers, batches, head)["logits"]


@pytest.mark.parametrize("task", ["sequence-classification", "token-classification"])
@pytest.mark.parametrize("columns", [1, 2, 3, 9])
def test_few_columns_are_judged_like_the_states_they_are_made_of(task, columns):
    """States with errors of 0.012 have a cosine of 0.99993 in 16 bits, those with 0.1 one of 0.995."""
    for seed in range(20):
        sound = noisy_classifier(columns, 0.012, seed, task)
        assert verify.Likeness(0.999).hold(sound) and verify.Likeness(0.99, typical=True).hold(sound)
        assert not verify.Likeness(0.999).hold(noisy_classifier(columns, 0.1, seed, task))


@pytest.mark.parametrize("columns", [1, 2, 20])
def test_zeros_on_both_sides_are_equal(columns, tiny):
    head = Head.of("token-classification", num_labels=columns)
    batches = verify.make_batches(tiny, head)
    zeros = [{"logits": np.zeros((*batch["input_ids"].shape, columns))} for batch in batches]
    errors = verify.measure(zeros, zeros, batches, head)["logits"]
    assert errors == verify.Errors(0.0, 0.0, 0.0, 1.0, 1.0)
    assert verify.eager_float32_errors(zeros, zeros, batches, head) == verify.Bounds(0.0, 0.0)
    rounding = [{"logits": answer["logits"] + 1e-7} for answer in zeros]
    assert verify.eager_float32_errors(zeros, rounding, batches, head).max_abs == pytest.approx(1e-7)
    ones = [{"logits": answer["logits"] + 1} for answer in zeros]
    for this, that in ((zeros, ones), (ones, zeros)):
        errors = verify.measure(this, that, batches, head)["logits"]
        assert not verify.Likeness(0.999).hold(errors)
        assert not verify.Likeness(0.99, typical=True).hold(errors)


@pytest.mark.parametrize("columns", [1, 2, 30])
def test_a_token_near_zero_among_others(columns, tiny):
    """Its direction is all rounding: an error of 1e-3 gives a cosine of -1. Others' errors count."""
    head = Head.of("token-classification", num_labels=columns)
    batches = verify.make_batches(tiny, head)
    generator = np.random.default_rng(0)
    reference = [{"logits": generator.normal(size=(*b["input_ids"].shape, columns))} for b in batches]
    reference[1]["logits"][0, 4] = 5e-4
    wrong = copy(reference)
    wrong[1]["logits"][0, 4] = -5e-4
    assert verify.measure(reference, wrong, batches, head)["logits"].cosine > 0.999
    for factor in (-1.0, 0.5, 3.0) if columns <= 2 else (-1.0,):
        wrong[1]["logits"][0, 5] = factor * reference[1]["logits"].max(axis=(0, 1))
        reference[1]["logits"][0, 5] = reference[1]["logits"].max(axis=(0, 1))
        assert verify.measure(reference, wrong, batches, head)["logits"].cosine < 0.999


def test_an_answer_of_another_size_is_refused_where_there_are_few_columns(tiny):
    """A cosine would not see it."""
    head = Head.of("sequence-classification", num_labels=1)
    batches, reference = task_answers(tiny, head)
    for one in reference:
        one["logits"] = one["logits"][:, :1]
    double = [{"logits": 2 * one["logits"]} for one in reference]
    errors = verify.measure(reference, double, batches, head)["logits"]
    assert errors.cosine < 0.9 and errors.typical_cosine < 0.9
