"""One export from request to published artifact: weights, program, ONNX graph, verification, manifest."""

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata, resources
from pathlib import Path
from typing import TypeVar

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.manifest import FileRecord, Manifest
from albert_runtime.artifact.tasks import INPUTS, Head
from albert_runtime.artifact.tensor_table import TensorRecord
from albert_runtime.backends.registry import check_isa
from albert_runtime.files import sha256_file
from albert_runtime.threads import choose_threads

from .. import verify
from ..calibration import Calibration, calibrate_on
from ..checkpoint.weights import RandomWeights
from ..names import (
    MANIFEST_SUFFIX,
    ONNX_SUFFIX,
    PROGRAM_SUFFIXES,
    TOKENIZER_SUFFIX,
    WEIGHTS_SUFFIX,
    human_size,
)
from ..precision import stored_bytes
from .messages import Job, Result, TraceJob, TraceResult
from .parent import run_job
from .publish import check_kept, check_space, check_target, publish, staging_folder
from .report import Report
from .request import ExportRequest
from .verification import DEPTHS, REFERENCE, Verification

_R = TypeVar("_R", bound=Result)

DEMO_TOKENIZER = "demo-tokenizer.json"
# Room for program, graph and manifest, beside the weights and the verification's answers.
_EXTRA_BYTES = 8_000_000
_CALIBRATION = ".calibration.npz"


def export(request: ExportRequest, report: Report) -> Path:
    """Make, verify and publish the artifact; the path of its program.

    Raises AlbertError or OSError; then nothing is left in the directory.
    """
    began = time.perf_counter()
    directory = request.directory.absolute()
    check_isa()  # told now, not when the engine is asked
    if request.source.program is not None:
        check_kept(directory, request.stem, request.source.program.files)
    check_target(directory, request.stem, force=request.force)
    depths = request.source.config.num_hidden_layers + 1 if request.precision.rounded else 0
    answers = verify.answer_bytes(request.source.config, request.source.head, depths)
    stored = stored_bytes(request.source.config, request.source.head, request.precision)
    check_space(directory, stored + answers + _EXTRA_BYTES)
    with staging_folder(directory) as folder:
        try:
            manifest = _Build(request, folder, report).run()
        finally:
            report.stop()
        files = [record.name for record in manifest.files.values()]
        publish(
            folder,
            directory,
            request.stem,
            [*files, f"{request.stem}{MANIFEST_SUFFIX}"],
            force=request.force,
        )
    total = sum(record.size for record in manifest.files.values())
    peaks = ", ".join(f"{name} {human_size(size)}" for name, size in report.peaks.items())
    report.say(
        f"{'published':<12}{human_size(total):>9}  {time.perf_counter() - began:6.1f} s  in {directory}"
    )
    report.say(f"peak memory by process: {peaks}")
    return directory / manifest.files["program"].name


class _Build:
    """The stages, in the staging folder."""

    def __init__(self, request: ExportRequest, folder: Path, report: Report) -> None:
        self.request, self.folder, self.report = request, folder, report
        self.source = request.source
        threads = str(choose_threads(None)[0])
        self.flags = {
            "FLAGS_enable_pir_api": "1" if request.format == "json" else "0",
            # Of eager Paddle's matrix products, which ask both; Paddle's own default is one.
            "FLAGS_paddle_num_threads": threads,
            "OMP_NUM_THREADS": threads,
        }
        self.ranges: dict[str, tuple[float, ...]] = {}
        self.names = {
            "program": f"{request.stem}{PROGRAM_SUFFIXES[request.format]}",
            "weights": f"{request.stem}{WEIGHTS_SUFFIX}",
            "onnx": f"{request.stem}{ONNX_SUFFIX}",
        }

    def run(self) -> Manifest:
        """All stages; the manifest as written."""
        self.tokenizer()
        calibration = self.calibration()
        traced = self.trace()
        self.ranges = traced.ranges
        self.graph(traced.tensors)
        manifest = self.manifest(traced, None if calibration is None else calibration.record)
        verification = Verification(self.request, self.folder, self.report, self.run_job, self.write_graph)
        record = verification.run(manifest, traced.eager_float32)
        manifest = replace(manifest, verification=record, proof=verification.proof(manifest))
        manifest.write(self.folder / f"{self.request.stem}{MANIFEST_SUFFIX}")
        return manifest

    def trace(self) -> TraceResult:
        job = TraceJob(
            config=self.source.config,
            head=self.source.head,
            weights=self.source.weights,
            precision=self.request.precision.name,
            program_file=self.folder / self.names["program"],
            weights_file=self.folder / self.names["weights"],
            calibration=self.folder / _CALIBRATION,
            reference=self.folder / REFERENCE,
            depths=self.folder / DEPTHS,
        )
        return self.run_job(job, TraceResult, "trace")

    def graph(self, tensors: Sequence[TensorRecord]) -> None:
        self.report.start("onnx", "writing and checking the graph")
        path = self.folder / self.names["onnx"]
        self.write_graph(path, self.source.config, self.source.head, tensors)
        detail = f"{path.name}, weights by reference into {self.names['weights']}"
        self.report.done(detail, path.stat().st_size)

    def write_graph(
        self, path: Path, config: AlbertConfig, head: Head, tensors: Sequence[TensorRecord]
    ) -> None:
        # Not needed to refuse a bad request.
        from ..onnx_graph import write_onnx  # noqa: PLC0415
        from ..onnx_nodes import Numbers  # noqa: PLC0415

        numbers = Numbers(self.request.precision, self.ranges)
        write_onnx(path, config, head, numbers, tensors, self.names["weights"], tool_version())

    def tokenizer(self) -> None:
        """The checkpoint's own tokenizer.json, or the demo's for random weights if its ids fit."""
        self.report.start("tokenizer", "copying")
        notes: tuple[str, ...] = ()
        if self.source.tokenizer is not None:
            data, notes = self.source.tokenizer.json, self.source.tokenizer.notes
            detail = f"from the checkpoint's {self.source.tokenizer.origin}"
        elif isinstance(self.source.weights, RandomWeights):
            demo = resources.files("albert_export").joinpath("data", DEMO_TOKENIZER)
            data = demo.read_bytes()
            if len(json.loads(data)["model"]["vocab"]) > self.source.config.vocab_size:
                return
            detail = "a small one trained on this project's own text, to try strings with"
        else:
            return
        self.names["tokenizer"] = f"{self.request.stem}{TOKENIZER_SUFFIX}"
        (self.folder / self.names["tokenizer"]).write_bytes(data)
        self.report.done(f"{self.names['tokenizer']}, {detail}", len(data))
        for note in notes:
            self.report.say(f"note: {note}")

    def calibration(self) -> Calibration | None:
        """What int8 is calibrated on; its rows lie in the folder, for the process that runs them."""
        request = self.request
        if not request.precision.quantized:
            return None
        self.report.start("text", "encoding the calibration text")
        name = self.names.get("tokenizer")
        tokenizer = None if name is None else (self.folder / name).read_bytes()
        random = isinstance(self.source.weights, RandomWeights)
        calibration = calibrate_on(request.calibration, tokenizer, self.source.config, random=random)
        verify.save_answers(self.folder / _CALIBRATION, calibration.rows)
        record = calibration.record
        self.report.done(f"calibration on {record['text']}, {record['rows']} rows, {record['tokens']} tokens")
        return calibration

    def manifest(self, traced: TraceResult, calibration: dict[str, object] | None) -> Manifest:
        files = {}
        self.report.start("manifest", "hashing")
        for role, name in self.names.items():
            path = self.folder / name
            files[role] = FileRecord(name, path.stat().st_size, sha256_file(path))
        manifest = Manifest(
            name=self.request.stem,
            task=self.source.head.task,
            precision=self.request.precision.name,
            created_by={
                "albert-runtime": tool_version(),
                "paddlepaddle": traced.paddle_version,
                "onnx": metadata.version("onnx"),
                "python": platform.python_version(),
            },
            weights_origin=traced.origin,
            config=self.source.config,
            labels=self.source.labels,
            inputs=INPUTS,
            outputs=self.source.head.outputs(self.source.config),
            files=files,
            tensors=traced.tensors,
            verification={},
            head=self.source.head,
            calibration=calibration,
            sentence_texts=self.source.sentence_texts,
            max_length=self.max_length(),
        )
        path = self.folder / f"{self.request.stem}{MANIFEST_SUFFIX}"
        manifest.write(path)
        self.report.done(
            f"{path.name}, {len(traced.tensors)} tensors, sha256 of {len(files)} files", path.stat().st_size
        )
        return manifest

    def max_length(self) -> int | None:
        """The tokenizer's own longest row, where that is shorter than the model's positions."""
        tokenizer = self.source.tokenizer
        longest = None if tokenizer is None else tokenizer.max_length
        return longest if longest and longest < self.source.config.max_position_embeddings else None

    def run_job(self, job: Job, result: type[_R], name: str) -> _R:
        """Run a job in a process of its own."""
        return run_job(job, result, self.folder, self.report, self.flags, name)


def tool_version() -> str:
    """The version of this distribution."""
    return metadata.version("albert-runtime")
