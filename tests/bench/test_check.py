"""Outputs before times: what passes, and what is said of the rest."""

import numpy as np
import pytest

from albert_bench.check import check

ROWS = [{"hidden": np.float32([[1, 2], [3, 4]]), "pooled": np.float32([0.5, -0.5])}] * 2


def changed(**outputs):
    return [ROWS[0], {**ROWS[1], **outputs}]


def test_equal_answers_pass():
    for precision in ("fp32", "bf16", "int8"):
        found = check(ROWS, ROWS, precision)
        assert (found.difference, found.fault) == (0.0, None)
        assert found.cosine == pytest.approx(1)


def test_fp32_is_held_to_a_difference_by_scale():
    near = changed(hidden=np.float32([[1, 2], [3, 4.0003]]))
    assert check(ROWS, near, "fp32").fault is None
    far = changed(hidden=np.float32([[1, 2], [3, 4.001]]))
    found = check(ROWS, far, "fp32")
    assert found.difference == pytest.approx(2.5e-4, rel=1e-2)
    assert found.fault == "differs by 2.5e-04 from the engine in fp32, more than 1e-04"
    assert check(ROWS, far, "int8").fault is None


def test_reduced_precision_is_held_to_the_least_cosine():
    turned = changed(hidden=np.float32([[1, 2], [4, 3]]))
    found = check(ROWS, turned, "bf16")
    assert found.cosine == pytest.approx(0.96)
    assert found.fault == "has a cosine of 0.9600 to the engine in fp32, less than 0.99"
    assert check(ROWS, turned, "int8").fault is None


@pytest.mark.parametrize(
    ("outputs", "fault"),
    [
        ({"pooled": np.float32([0.5, np.nan])}, "pooled of row 1 is not finite"),
        ({"pooled": np.float32([0.5])}, "pooled of row 1 has shape (1,) instead of (2,)"),
    ],
)
def test_broken_answers(outputs, fault):
    assert check(ROWS, changed(**outputs), "int8").fault == fault


def test_a_missing_output():
    assert check(ROWS, [ROWS[0], {"hidden": ROWS[1]["hidden"]}], "fp32").fault == "row 1 has no pooled"
