"""Messages between the processes: every one survives the line, and nothing else is taken for one."""

import json
from pathlib import Path

import pytest

from albert_export.checkpoint.weights import CheckpointWeights, RandomWeights
from albert_export.pipeline.messages import (
    AnswerJob,
    AnswerResult,
    Failed,
    Finished,
    ProgramJob,
    ProofJob,
    ProtocolError,
    StageDone,
    StageProgress,
    StageStarted,
    TraceJob,
    TraceResult,
    from_line,
    to_line,
)
from albert_export.programs.albert import ProgramOutput
from albert_export.programs.comparison import TakenProgram
from albert_export.programs.weights import ProgramWeights
from albert_export.verify import Bounds
from albert_runtime.artifact.proof import Proof, ProofRow
from albert_runtime.artifact.tasks import Head
from albert_runtime.artifact.tensor_table import TensorRecord

FILES = [Path(name) for name in ("a", "b", "c", "d", "e")]


def messages(tiny):
    shards = (Path("a.bin"), Path("b.bin"))
    result = TraceResult(
        (TensorRecord("x", "int8", (2, 3), 31, 6),),
        {"x": (0.1, 2.0)},
        {"kind": "checkpoint", "files": ["a.bin"]},
        Bounds(1e-6, 1e-7),
        "3.1.1",
    )
    outputs = {"logits": ProgramOutput("scores", "softmax", 1), "pooled_output": ProgramOutput("p")}
    inputs, types = {"input_ids": "x"}, {"x": "int64"}
    program = TakenProgram((Path("a.onnx"),), inputs, outputs, (None, 16), types, ("y",), 3, False)
    return [
        TraceJob(tiny, Head.of("masked-lm"), RandomWeights(3), "int8", *FILES),
        TraceJob(tiny, Head(), CheckpointWeights(shards, "huggingface", ("pooler.",)), "fp32", *FILES),
        TraceJob(tiny, Head(), ProgramWeights((Path("a.onnx"),), "model"), "fp32", *FILES),
        AnswerJob(tiny, Head(hidden_states=True), "native", Path("m"), ("hidden_states",), Path("a"), None),
        AnswerJob(tiny, Head(), "native", Path("m"), None, Path("a"), Path("b")),
        ProgramJob(program, Path("b"), Path("a")),
        ProofJob(Path("m")),
        StageStarted("weights", "filling"),
        StageProgress(1, 2),
        StageDone("done", None),
        Finished(result, 10**9),
        Finished(AnswerResult(None), 1),
        Finished(Proof((ProofRow((1, 2), (0, 1)),), {"fp32": {"logits": "0" * 64}}), 1),
        Finished(AnswerResult("no bfloat16 here"), 1),
        Failed("disk full", 28, "/x"),
        Failed("bad"),
    ]


def test_every_message_survives_its_line(tiny):
    for message in messages(tiny):
        line = to_line(message)
        assert line.count(b"\n") == 1 and line.endswith(b"\n")
        assert from_line(line) == message


def test_a_missing_an_unknown_and_a_mistyped_field_are_named(tiny):
    for message in messages(tiny):
        name = type(message).__name__
        values = json.loads(to_line(message))
        for field in values.keys() - {"kind"}:
            rest = {key: value for key, value in values.items() if key != field}
            with pytest.raises(ProtocolError, match=rf"{name} has the fields .* instead of"):
                from_line(json.dumps(rest).encode())
            with pytest.raises(ProtocolError, match=rf"{name}\.{field} is "):
                from_line(json.dumps({**values, field: [[]]}).encode())
        with pytest.raises(ProtocolError, match="has the fields"):
            from_line(json.dumps({**values, "more": 1}).encode())


@pytest.mark.parametrize("line", [b"", b"paddle says hello", b"[]", b"{}", b'{"kind": "Bounds"}'])
def test_other_lines_are_no_messages(line):
    with pytest.raises(ProtocolError):
        from_line(line)
