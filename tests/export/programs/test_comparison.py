"""What a program and its export are compared on, and what comes of a program that is another."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from albert_export import program_source
from albert_export.errors import ExportError
from albert_export.programs.albert import ProgramOutput, take_albert
from albert_export.programs.comparison import (
    as_program_gives,
    comparison_batches,
    program_feeds,
    taken_program,
)
from albert_export.programs.program_file import read_program
from albert_export.programs.run import run_program

from .spellings.nodes import CONFIG
from .spellings.program import Program, save
from .stored import Case


@pytest.fixture
def taken(stored_program):
    """taken(name) -> the program as it is run, and the config of its ALBERT."""

    def of(name):
        case = Case(stored_program(name))
        return taken_program(case.graph, case.albert), case.albert.config

    return of


def shapes(batches):
    return [batch["input_ids"].shape for batch in batches]


def test_batches_of_any_size(taken):
    program, config = taken("torch-script/model")
    batches = comparison_batches(program, config)
    assert shapes(batches) == [(1, 40), (4, 24), (3, 9)]  # the model has 40 positions
    for batch in batches:
        mask = batch["attention_mask"]
        assert mask[:, 0].all() and (np.diff(mask, axis=-1) <= 0).all()  # padded at the end
        assert (batch["input_ids"][mask == 0] == 0).all() and batch["input_ids"].max() < config.vocab_size
        assert (batch["token_type_ids"][mask == 0] == 0).all() and batch["token_type_ids"].any()
    assert any((batch["attention_mask"] == 0).any() for batch in batches)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("torch-script/model-groups-inner", [(1, 16)] * 3),
        ("torch-script/model-fixed-length", [(1, 7), (4, 7), (3, 7)]),
        ("torch-script/multiple-choice", [(1, 2, 40), (4, 2, 24), (3, 2, 9)]),
    ],
)
def test_sizes_that_the_program_asks_for(taken, name, sizes):
    program, config = taken(name)
    batches = comparison_batches(program, config)
    assert shapes(batches) == sizes
    answers = run_program(program, batches)  # ONNX Runtime takes them
    assert len(answers) == 3 and all(answer.keys() == program.outputs.keys() for answer in answers)


def test_a_program_that_masks_nothing_gets_no_padding(taken):
    program, config = taken("torch-script/model-ids-only")
    for batch in comparison_batches(program, config):
        assert batch["attention_mask"].all() and not batch["token_type_ids"].any()
        assert program_feeds(program, batch).keys() == {"input_ids"}


def test_a_word_that_masks(taken):
    program, config = taken("torch-script/model-ids-only")
    batches = comparison_batches(replace(program, pad_id=3), config)
    assert not all(batch["attention_mask"].all() for batch in batches)
    for batch in batches:
        assert np.array_equal(batch["input_ids"] != 3, batch["attention_mask"] == 1)


def test_names_types_and_inputs_that_are_none_of_ours(taken):
    program, config = taken("torch-script-old/model-unnamed")
    program = replace(
        program, types={**program.types, "input.3": "int32", "place": "float32"}, others=("place",)
    )
    batch = comparison_batches(program, config)[2]
    feeds = program_feeds(program, batch)
    assert feeds.keys() == {"input.1", "onnx::Unsqueeze_1", "input.3", "place"}
    assert feeds["input.3"].dtype == np.int32 and feeds["place"].dtype == np.float32
    np.testing.assert_array_equal(feeds["onnx::Unsqueeze_1"], batch["attention_mask"])
    np.testing.assert_array_equal(feeds["place"], np.tile(np.arange(9), (3, 1)))


def test_answers_in_the_programs_form(taken):
    program, _ = taken("torch-script/sequence-classification")
    logits = np.log(np.array([[1.0, 3.0, 4.0]]))

    def given(softened):
        outputs = {"logits": ProgramOutput("x", softened)}
        return as_program_gives(replace(program, outputs=outputs), {"logits": logits, "more": logits})

    assert given(None).keys() == {"logits"}
    np.testing.assert_allclose(given("softmax")["logits"], [[0.125, 0.375, 0.5]])
    np.testing.assert_allclose(given("sigmoid")["logits"], [[0.5, 0.75, 0.8]])


def test_weights_that_changed_since(stored_program, tmp_path, run, monkeypatch):
    """The export of a program that answers something else fails, and leaves nothing."""
    model = onnx.load(stored_program("torch-script/model") / "model.onnx")
    table = next(one for one in model.graph.initializer if one.name.endswith("word_embeddings.weight"))
    values = onnx.numpy_helper.to_array(table).copy()
    values[:, 0] += 0.01
    table.CopyFrom(onnx.numpy_helper.from_array(values, table.name))
    changed = tmp_path / "changed.onnx"
    onnx.save(model, changed)
    monkeypatch.setattr(
        program_source, "taken_program", lambda *given: replace(taken_program(*given), files=(changed,))
    )
    outcome = run(stored_program("torch-script/model"), "-o", tmp_path / "out", "--quiet")
    assert outcome.code == 1 and "nothing was written" in outcome.err
    assert "verification failed: native differs from changed.onnx by" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_program_that_cannot_be_run_here(stored_program, tmp_path, run):
    folder = stored_program("paddle2onnx-json/question-answering-opset17")
    outcome = run(folder, "-o", tmp_path)
    assert outcome.code == 0
    assert "model.onnx cannot be run here, so nothing was compared with it: " in outcome.err
    manifest = json.loads((tmp_path / f"{folder.name}.manifest.json").read_text())
    assert manifest["verification"]["program"]["file"] == "model.onnx"
    assert "Squeeze" in manifest["verification"]["program"]["left_out"]


class Reshaped(Program):
    """Its states as rows of one length, which few batches have."""

    def __init__(self, sizes):
        super().__init__({})
        self.sizes = sizes

    def outputs(self):
        return [self.add("Reshape", output, self.sizes) for output in super().outputs()[:1]]


def test_a_program_that_fails_on_some_batches(tmp_path):
    """It can be run here, so that it is not its library that is at fault."""
    path = save(tmp_path, Program({}))
    graph = read_program(path)
    program = taken_program(graph, take_albert(graph, None))
    batches = comparison_batches(program, CONFIG)
    program = replace(program, outputs={"last_hidden_state": program.outputs["last_hidden_state"]})
    shape = (*batches[1]["input_ids"].shape, CONFIG.hidden_size)

    def changed(sizes):
        model = Reshaped(sizes).model()
        folder = tmp_path / "changed"
        folder.mkdir(exist_ok=True)
        onnx.save(model, folder / "model.onnx")
        outputs = {"last_hidden_state": ProgramOutput(model.graph.output[0].name)}
        return replace(program, files=(folder / "model.onnx",), outputs=outputs)

    with pytest.raises(
        ExportError, match=r"^model.onnx fails on a batch that its export answers \(.*Reshape"
    ):
        run_program(changed(shape), batches)
    with pytest.raises(Exception, match="Reshape") as error:
        run_program(changed((7, 7, 7)), batches)
    assert not isinstance(error.value, ExportError)
    (answer,) = run_program(changed(shape), batches[1:2])
    assert answer["last_hidden_state"].shape == shape
