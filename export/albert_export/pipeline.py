"""One export from request to published artifact: weights, program, ONNX graph, verification, manifest."""

import json
import math
import platform
import time
from dataclasses import replace
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from albert_runtime.manifest import INPUTS, FileRecord, Manifest, TensorRecord, tensor_shapes

from . import verify
from .errors import ExportError
from .names import (
    MANIFEST_SUFFIX,
    ONNX_SUFFIX,
    PROGRAM_SUFFIXES,
    TOKENIZER_SUFFIX,
    WEIGHTS_SUFFIX,
    human_size,
)
from .process import run_stage
from .publish import check_space, check_target, publish, staging_folder
from .report import Report
from .request import Request
from .weights import RandomWeights, file_sha256, source_to_json

DEMO_TOKENIZER = "demo-tokenizer.json"
# Room for program, graph and manifest, beside the weights and the verification's answers.
_EXTRA_BYTES = 8_000_000
_REFERENCE = ".reference.npz"
_ANSWERS = ".answers.npz"


def export(request: Request, report: Report) -> Path:
    """Make, verify and publish the artifact; the path of its program.

    Raises AlbertError or OSError; then nothing is left in the directory.
    """
    began = time.perf_counter()
    directory = request.directory.absolute()
    check_target(directory, request.stem, force=request.force)
    parameters = sum(map(math.prod, tensor_shapes(request.config, request.head).values()))
    answers = verify.answer_bytes(request.config, request.head)
    check_space(directory, parameters * 4 + answers + _EXTRA_BYTES)
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

    def __init__(self, request: Request, folder: Path, report: Report) -> None:
        self.request, self.folder, self.report = request, folder, report
        self.flags = {"FLAGS_enable_pir_api": "1" if request.format == "json" else "0"}
        self.names = {
            "program": f"{request.stem}{PROGRAM_SUFFIXES[request.format]}",
            "weights": f"{request.stem}{WEIGHTS_SUFFIX}",
            "onnx": f"{request.stem}{ONNX_SUFFIX}",
        }

    def run(self) -> Manifest:
        """All stages; the manifest as written."""
        traced = self.trace()
        tensors = [
            TensorRecord(item["name"], item["dtype"], tuple(item["shape"]), item["offset"], item["length"])
            for item in traced["tensors"]
        ]
        self.graph(tensors)
        self.tokenizer()
        manifest = self.manifest(traced, tensors)
        record = self.verify(manifest, verify.Bounds(**traced["eager_float32"]))
        manifest = replace(manifest, verification=record)
        manifest.write(self.folder / f"{self.request.stem}{MANIFEST_SUFFIX}")
        return manifest

    def trace(self) -> dict[str, Any]:
        return self.stage(
            {
                "stage": "trace",
                "folder": str(self.folder),
                "stem": self.request.stem,
                "format": self.request.format,
                "weights": source_to_json(self.request.weights),
                "reference": str(self.folder / _REFERENCE),
            }
        )

    def graph(self, tensors: list[TensorRecord]) -> None:
        self.report.start("onnx", "writing and checking the graph")
        from .onnx_graph import write_onnx  # noqa: PLC0415  (onnx is not needed to refuse a bad request)

        path, request = self.folder / self.names["onnx"], self.request
        write_onnx(path, request.config, request.head, tensors, self.names["weights"], tool_version())
        detail = f"{path.name}, weights by reference into {self.names['weights']}"
        self.report.done(detail, path.stat().st_size)

    def tokenizer(self) -> None:
        """The checkpoint's own tokenizer.json, or the demo's for random weights if its ids fit."""
        request = self.request
        self.report.start("tokenizer", "copying")
        if request.tokenizer_json is not None:
            data = request.tokenizer_json
            detail = "that of the checkpoint"
        elif isinstance(request.weights, RandomWeights):
            demo = resources.files(__package__).joinpath("data", DEMO_TOKENIZER)
            data = demo.read_bytes()
            if len(json.loads(data)["model"]["vocab"]) > request.config.vocab_size:
                return
            detail = "a small one trained on this project's own text, to try strings with"
        else:
            return
        self.names["tokenizer"] = f"{request.stem}{TOKENIZER_SUFFIX}"
        (self.folder / self.names["tokenizer"]).write_bytes(data)
        self.report.done(f"{self.names['tokenizer']}, {detail}", len(data))

    def manifest(self, traced: dict[str, Any], tensors: list[TensorRecord]) -> Manifest:
        files = {}
        self.report.start("manifest", "hashing")
        for role, name in self.names.items():
            path = self.folder / name
            files[role] = FileRecord(name, path.stat().st_size, file_sha256(path))
        manifest = Manifest(
            name=self.request.stem,
            task=self.request.head.task,
            precision="fp32",
            created_by={
                "albert-runtime": tool_version(),
                "paddlepaddle": traced["paddlepaddle"],
                "onnx": metadata.version("onnx"),
                "python": platform.python_version(),
            },
            weights_origin=traced["origin"],
            config=self.request.config,
            labels=self.request.labels,
            inputs=INPUTS,
            outputs=self.request.head.outputs(self.request.config),
            files=files,
            tensors=tuple(tensors),
            verification={},
            head=self.request.head,
        )
        path = self.folder / f"{self.request.stem}{MANIFEST_SUFFIX}"
        manifest.write(path)
        self.report.done(
            f"{path.name}, {len(tensors)} tensors, sha256 of {len(files)} files", path.stat().st_size
        )
        return manifest

    def verify(self, manifest: Manifest, eager_float32: verify.Bounds) -> dict[str, object]:
        """Every backend against the reference; ExportError if one is off by more than the tolerance."""
        batches = verify.make_batches(manifest.config, manifest.head)
        reference = verify.load_answers(self.folder / _REFERENCE)
        results = {}
        for backend in verify.BACKENDS:
            self.report.start("verify", backend)
            self.stage(
                {
                    "stage": "answer",
                    "backend": backend,
                    "manifest": str(self.folder / f"{manifest.name}{MANIFEST_SUFFIX}"),
                    "answers": str(self.folder / _ANSWERS),
                },
                f"verify {backend}",
            )
            answers = verify.load_answers(self.folder / _ANSWERS)
            results[backend] = verify.measure(reference, answers, batches, manifest.head)
            self.report.done(f"{backend} answered {len(batches)} batches")
        allowed = verify.tolerance(eager_float32)
        self.report.table(results, allowed)
        for backend, outputs in results.items():
            for name, errors in outputs.items():
                if not allowed.hold(errors):
                    raise ExportError(
                        f"verification failed: {backend} differs from eager Paddle in float64 by "
                        f"{errors.max_abs:.2e} in {name}, {errors.typical_abs:.2e} for a typical token; "
                        f"{allowed.max_abs:.2e} and {allowed.typical_abs:.2e} are allowed; "
                        "nothing was written"
                    )
        return verify.record(eager_float32, results)

    def stage(self, request: dict[str, Any], process: str | None = None) -> dict[str, Any]:
        model = {"config": self.request.config.to_dict(), "head": self.request.head.to_dict()}
        full = {**request, **model}
        return run_stage(full, self.folder, self.report, self.flags, process or request["stage"])


def tool_version() -> str:
    """The version of this distribution."""
    return metadata.version("albert-runtime")
