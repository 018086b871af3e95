"""What a program does with its word ids: it looks them up, and may mask one; whatever else is refused."""

import numpy as np
import pytest
from onnx import TensorProto

from albert_export.errors import ExportError
from albert_export.programs.albert import take_albert
from albert_export.programs.program_file import read_program

from .spellings.program import Program, save

PAD = 3


class Masked(Program):
    """A program that masks what ``other_words`` does not keep."""

    def inputs(self):
        return ["token_type_ids", "input_ids"]

    def token_mask(self):
        return self.add("Cast", self.other_words(), to=TensorProto.INT64)

    def other_words(self):
        return self.not_equal("input_ids", np.array(PAD))

    def not_equal(self, x, y):
        return self.add("Not", self.add("Equal", x, y, name="compared"))


def take(folder, program):
    return take_albert(read_program(save(folder, program)), None)


# ---- A word that pads


class FloatPad(Masked):
    """Its ids and the pad are compared as floats."""

    def other_words(self):
        return self.not_equal(self.add("Cast", "input_ids", to=TensorProto.FLOAT), float(PAD))


@pytest.mark.parametrize("kind", [Masked, FloatPad])
def test_the_word_that_pads(tmp_path, kind):
    albert = take(tmp_path, kind({}))
    assert albert.pad_id == albert.config.pad_token_id == PAD
    assert albert.inputs == {"input_ids": "input_ids", "token_type_ids": "token_type_ids"}
    assert albert.notes == ("the program masks word 3; the export takes attention_mask",)


class BothMasks(Masked):
    """It masks by an input and a word."""

    def __init__(self, pad):
        super().__init__({})
        self.pad = pad

    def inputs(self):
        return Program.inputs(self)

    def token_mask(self):
        words = self.add("Cast", self.not_equal("input_ids", np.array(self.pad)), to=TensorProto.INT64)
        return self.add("Mul", "attention_mask", words)


class PadsInArray(Masked):
    """It compares with an array of pads, which is too large to be tried number by number."""

    shape = (2, 5)

    def other_words(self):
        return self.not_equal("input_ids", np.full(self.shape, PAD))


class WordForWord(Program):
    """It looks up word 1 in place of word 5."""

    def word_ids(self):
        return self.add("Where", self.add("Equal", "input_ids", np.array(5)), np.array(1), "input_ids")


class TypesOfSeparators(Program):
    """It counts types from the separators before a token."""

    def inputs(self):
        return ["input_ids", "attention_mask"]

    def type_ids(self):
        ends = self.add("Cast", self.add("Equal", "input_ids", np.array(3)), to=TensorProto.INT64)
        return self.add("Min", self.add("CumSum", ends, np.array(1)), np.array(1))


@pytest.mark.parametrize(
    ("program", "node"),
    [
        (BothMasks(0), r"Add \d+ \(Add\)"),
        (BothMasks(PAD), r"Add \d+ \(Add\)"),
        (PadsInArray({}), r"Add \d+ \(Add\)"),
        (WordForWord({}), r"Gather \d+ \(Gather\)"),
        (TypesOfSeparators({}), r"Gather \d+ \(Gather\)"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_results_that_depend_on_which_words_they_are(tmp_path, program, node):
    with pytest.raises(ExportError, match=f"^it is no ALBERT that we know: {node} does not fit: ") as error:
        take(tmp_path, program)
    assert "depends on which words they are, beside their embeddings" in str(error.value)


class TwoPads(Masked):
    def other_words(self):
        return self.add("And", super().other_words(), self.not_equal("input_ids", np.array(7)))


class PadAndAbove(Masked):
    def other_words(self):
        lower = self.add("LessOrEqual", "input_ids", np.array(7))
        return self.add("And", super().other_words(), lower)


@pytest.mark.parametrize(("kind", "other"), [(TwoPads, 7), (PadAndAbove, 8)])
def test_more_masked_words_than_one(tmp_path, kind, other):
    with pytest.raises(
        ExportError, match=rf"Add \d+ \(Add\) does not fit: it masks word {other} beside word 3"
    ):
        take(tmp_path, kind({}))


class PadZero(Masked):
    """As numbers, all words but 0 are true."""

    def other_words(self):
        return self.add("Cast", "input_ids", to=TensorProto.BOOL)


class AboveZero(Masked):
    def other_words(self):
        return self.add("Greater", "input_ids", np.array(0))


@pytest.mark.parametrize("kind", [PadZero, AboveZero])
def test_word_0_that_pads(tmp_path, kind):
    assert take(tmp_path, kind({})).pad_id == 0


# ---- Which input is which


class MaskLast(Program):
    def inputs(self):
        return ["input_ids", "token_type_ids", "labels", "more", "attention_mask"]


def test_a_mask_after_inputs_without_use(tmp_path):
    albert = take(tmp_path, MaskLast({}))
    assert albert.inputs["attention_mask"] == "attention_mask" and albert.pad_id is None
    assert albert.notes == ("the program makes no use of its input labels and more",)


class Short(Program):
    def __init__(self, length):
        super().__init__({})
        self.shape = (1, length)


@pytest.mark.parametrize("length", [2, 3])
def test_too_short_to_tell_inputs_apart(tmp_path, length):
    with pytest.raises(ExportError, match=rf"\[1, {length}\] is too small to tell its 3 inputs apart"):
        take(tmp_path, Short(length))


def test_as_short_as_it_can_be(tmp_path):
    albert = take(tmp_path, Short(4))
    assert albert.inputs == {name: name for name in ("input_ids", "attention_mask", "token_type_ids")}
