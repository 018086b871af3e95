"""Programs of both of Paddle's formats, read and computed, against what Paddle answers."""

import numpy as np
import pytest

from albert_export.programs.formats.paddle_operators import PADDLE_OPERATORS
from albert_export.programs.formats.pdmodel_operators import PDMODEL_OPERATORS
from albert_export.programs.operators import OPERATORS
from albert_runtime import Predictor
from albert_runtime.artifact.artifact import Artifact

from ..stored import stored
from .evaluate import check_answers, evaluate, program_of, read, widened

PADDLENLP = stored("paddle", "paddle2-pdmodel", "paddle3-pdmodel", "paddle3-json")
FORMS = ("pdmodel", "json")
TASKS = (
    "model-gelu",
    "masked-lm",
    "sequence-classification",
    "token-classification",
    "question-answering",
    "multiple-choice",
)
# Operators that Paddle 3 itself no longer writes.
ONLY_IN_PDMODEL = {"fc", "increment", "lookup_table", "mul", "shape", "tril_triu"}


@pytest.mark.parametrize("form", FORMS)
def test_every_operator_computes_what_paddle_does(small_programs, form):
    for folder in sorted(small_programs(form).iterdir()):
        graph = read(program_of(folder))
        assert {node.op for node in graph.nodes} <= OPERATORS.keys(), folder.name
        try:
            check_answers(folder)
        except AssertionError as error:
            raise AssertionError(f"{form}, {folder.name}: {error}") from None


@pytest.mark.parametrize("form", FORMS)
def test_every_operator_is_tried(small_programs, form):
    graphs = [read(program_of(folder)) for folder in small_programs(form).iterdir()]
    kinds = {node.kind for graph in graphs for node in graph.nodes}
    if form == "pdmodel":
        # This one gives a constant, no node.
        assert kinds | {"assign_value"} == PDMODEL_OPERATORS.keys()
    else:
        made = {"assign_value", "full", "full_int_array"}
        tried = {kind.removeprefix("pd_op.").removesuffix("_") for kind in kinds}
        assert tried | made | ONLY_IN_PDMODEL == PADDLE_OPERATORS.keys()


def batch_of(program, seed, full):
    """Ids, a mask and types of two rows for an export of ours."""
    manifest = Artifact.open(program).manifest
    generator = np.random.default_rng(seed)
    shape = (2, 3, 11) if manifest.task == "multiple-choice" else (2, 11)
    mask = np.ones(shape, np.int64)
    if not full:
        mask[0, ..., 7:] = 0
    ids = generator.integers(5, manifest.config.vocab_size, shape) * mask
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": generator.integers(0, 2, shape) * mask,
    }


def check_export(program, backend, precision="auto", graph=None):
    graph = graph or read(program)
    predictor = Predictor(program, backend=backend, precision=precision)
    assert {node.op for node in graph.nodes} <= OPERATORS.keys()
    for full in (True, False):
        given = batch_of(program, 3, full)
        expected = predictor.run(given)
        answers = evaluate(graph, given)
        assert len(answers) == len(expected)
        for answer, (name, values) in zip(answers, expected.items(), strict=True):
            assert answer.shape == values.shape
            per_token = values.shape[:2] == given["input_ids"].shape
            kept = given["attention_mask"] == 1 if per_token else slice(None)
            np.testing.assert_allclose(answer[kept], values[kept], rtol=0, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("form", FORMS)
def test_own_exports(export_artifact, golden, form, task):
    check_export(export_artifact(golden / task, format=form), "paddle")


@pytest.mark.parametrize(("form", "precision"), [("pdmodel", "fp16"), ("pdmodel", "bf16"), ("json", "bf16")])
def test_own_exports_in_16_bits(export_artifact, golden, form, precision):
    program = export_artifact(golden / "model-gelu", format=form, precision=precision)
    # The same weights in float32: in 16 bits each runtime rounds in its own way.
    check_export(program, "native", "fp32", widened(read(program)))


def test_own_exports_in_int8(export_artifact, golden):
    check_export(export_artifact(golden / "model-gelu", seed=1, precision="int8"), "paddle")


@pytest.mark.parametrize("name", PADDLENLP)
def test_programs_of_paddlenlp(stored_program, name):
    folder = stored_program(name)
    check_answers(folder)
    graph = read(program_of(folder))
    assert {node.op for node in graph.nodes} <= OPERATORS.keys()
    assert graph.files == (program_of(folder), folder / "model.pdiparams")


@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_translated_is_kept_by_the_name_of_the_file(stored_program, form):
    graph = read(program_of(stored_program(f"paddle3-{form}-other/convnet")))
    prefix, suffix = ("", "") if form == "pdmodel" else ("pd_op.", "_")
    unknown = [node for node in graph.nodes if node.op not in OPERATORS]
    assert [node.op for node in unknown] == [
        f"{prefix}conv2d",
        f"{prefix}batch_norm{suffix}",
        f"{prefix}pool2d",
    ]
    assert [node.kind for node in unknown] == [node.op for node in unknown]
    assert str(unknown[0]) == ("conv2d_0.tmp_0 (conv2d)" if form == "pdmodel" else "op 9 (pd_op.conv2d)")
    given = {item.name for item in graph.inputs} | graph.constants.keys()
    for node in graph.nodes:
        assert given.issuperset(node.inputs)
        given.update(node.outputs)
