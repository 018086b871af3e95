"""The stages that compare what was made with the reference, and with the program it was taken out of."""

from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.manifest import FileRecord, Manifest
from albert_runtime.artifact.proof import Proof
from albert_runtime.artifact.tasks import HIDDEN_STATES, MODEL, Head
from albert_runtime.artifact.tensor_table import TensorRecord
from albert_runtime.files import sha256_file

from .. import verify
from ..checkpoint.stored_tensor import shown
from ..errors import ExportError
from ..names import MANIFEST_SUFFIX, ONNX_SUFFIX
from ..precision import PRECISIONS, stored_shapes
from ..programs.comparison import TakenProgram, as_ours, as_program_gives, comparison_batches
from ..verify import Results
from .messages import AnswerJob, AnswerResult, ProgramJob, ProofJob
from .report import Report
from .request import ExportRequest

# In the staging folder; the first two are written by the trace.
REFERENCE, DEPTHS = ".reference.npz", ".depths.npz"
_ANSWERS, _BATCHES = ".answers.npz", ".batches.npz"
_ENCODER = ".encoder"
# For Paddle's another program would have to be traced.
_DEPTHS_SHOWN = ("native", "onnxruntime")

WriteGraph = Callable[[Path, AlbertConfig, Head, Sequence[TensorRecord]], None]


class Verification:
    """Runs the artifact in the staging folder on every backend, each in a process of its own.

    Args:
        request: What is exported.
        folder: The staging folder, with reference, artifact and manifest.
        report: Shows stages and errors.
        run_job: Runs a job of ``messages`` in a process of its own: (job, type of its result, name).
        write_graph: Writes an ONNX graph on the artifact's weights.
    """

    def __init__(
        self,
        request: ExportRequest,
        folder: Path,
        report: Report,
        run_job: Callable[..., Any],
        write_graph: WriteGraph,
    ) -> None:
        self.request, self.folder, self.report = request, folder, report
        self.run_job, self.write_graph = run_job, write_graph

    def run(self, manifest: Manifest, eager_float32: verify.Bounds) -> dict[str, object]:
        """The manifest's ``verification``; ExportError if an error is greater than allowed."""
        batches = verify.make_batches(manifest.config, manifest.head)
        reference = verify.load_answers(self.folder / REFERENCE)
        results: dict[str, dict[str, verify.Errors]] = {}
        left_out: dict[str, str] = {}
        for backend in verify.BACKENDS:
            self.report.start("verify", backend)
            answers = self.answers(backend, manifest)
            if isinstance(answers, str):
                if backend == verify.ENGINE:
                    raise ExportError(f"{backend} cannot run this model here: {answers}")
                left_out[backend] = answers
                self.report.done(f"{backend} left out: {answers}")
                continue
            results[backend] = verify.measure(reference, answers, batches, manifest.head)
            self.report.done(f"{backend} answered {len(batches)} batches")
        precision = self.request.precision
        allowed: verify.Allowed = verify.tolerance(eager_float32)
        if precision.least_cosine is not None:
            allowed = verify.Likeness(precision.least_cosine, precision.typical)
        self.report.table(results, allowed)
        _check(results, allowed, verify.REFERENCE_TITLE)
        depths = self.depths(manifest, left_out)
        if depths:
            self.report.depths(depths)
        record = verify.record(eager_float32, allowed, results, depths, left_out)
        if self.request.source.program is not None:
            record["program"] = self.program(self.request.source.program, manifest, allowed)
        return record

    def proof(self, manifest: Manifest) -> Proof:
        """The manifest's ``proof``: digests of answers of the engine, which was just verified."""
        self.report.start("digests", verify.ENGINE)
        proof: Proof = self.run_job(ProofJob(self.manifest_path(manifest)), Proof, f"prove {verify.ENGINE}")
        self.report.done(
            f"of {verify.ENGINE}'s answers to {proof.tokens} tokens in {', '.join(proof.digests)}"
        )
        return proof

    def program(
        self, program: TakenProgram, manifest: Manifest, allowed: verify.Allowed
    ) -> dict[str, object]:
        """The engine against the program that the model was taken out of, as the manifest records it."""
        name = shown(program.files[0].name)
        self.report.start("verify", name)
        if not program.outputs:
            why = "it gives no output of this task"
            self.report.done(f"{name} is not compared: {why}")
            return {"file": name, "left_out": why}
        batches = comparison_batches(program, manifest.config)
        path = self.folder / _BATCHES
        verify.save_answers(path, batches)
        result = self.run_job(ProgramJob(program, path, self.folder / _ANSWERS), AnswerResult, f"run {name}")
        if result.unsupported is not None:
            self.report.done(
                f"{name} cannot be run here, so nothing was compared with it: {result.unsupported}"
            )
            return {"file": name, "left_out": result.unsupported}
        theirs = verify.load_answers(self.folder / _ANSWERS)
        answers = self.answers(verify.ENGINE, manifest, batches=path)
        assert not isinstance(answers, str)  # it ran the verification
        ours = [as_program_gives(program, answer) for answer in answers]
        theirs = [as_ours(program, *pair) for pair in zip(theirs, ours, strict=True)]
        errors = verify.measure(theirs, ours, batches, manifest.head)
        if program.half and isinstance(allowed, verify.Bounds):
            half = PRECISIONS["fp16"]
            assert half.least_cosine is not None
            allowed = verify.Likeness(half.least_cosine)
        self.report.done(f"{name} answered {len(batches)} batches")
        self.report.table({verify.ENGINE: errors}, allowed, against=name)
        _check({verify.ENGINE: errors}, allowed, name)
        return {"file": name, **verify.plain({verify.ENGINE: errors})}

    def depths(self, manifest: Manifest, left_out: Container[str]) -> Results:
        """Errors after each depth of rounded weights, of the backends that show one with no other program."""
        if not self.request.precision.rounded:
            return {}
        reference = verify.load_answers(self.folder / DEPTHS)
        encoder = self.encoder(manifest)
        rows = verify.make_batches(encoder.config, encoder.head)
        results = {}
        for backend in _DEPTHS_SHOWN:
            if backend not in left_out:
                self.report.start("depths", backend)
                answers = self.answers(backend, encoder, (HIDDEN_STATES,))
                assert not isinstance(answers, str)  # it could run the whole model
                results[backend] = verify.measure_depths(reference, answers, rows)
                self.report.done(f"{backend} answered at {len(results[backend])} depths")
        return results

    def encoder(self, manifest: Manifest) -> Manifest:
        """The encoder alone, answering its hidden states, on the same weight file; in the staging folder."""
        config = replace(manifest.config, add_pooling_layer=False)
        names = stored_shapes(config, verify.ENCODER, self.request.precision)
        tensors = tuple(tensor for tensor in manifest.tensors if tensor.name in names)
        graph = self.folder / f"{_ENCODER}{ONNX_SUFFIX}"
        self.write_graph(graph, config, verify.ENCODER, tensors)
        files = {
            "weights": manifest.files["weights"],
            "onnx": FileRecord(graph.name, graph.stat().st_size, sha256_file(graph)),
        }
        encoder = replace(
            manifest,
            name=_ENCODER,
            task=MODEL,
            head=verify.ENCODER,
            sentence_texts=None,
            labels=None,
            config=config,
            outputs=verify.ENCODER.outputs(config),
            files=files,
            tensors=tensors,
        )
        encoder.write(self.manifest_path(encoder))
        return encoder

    def manifest_path(self, manifest: Manifest) -> Path:
        """Where a manifest lies in the staging folder."""
        return self.folder / f"{manifest.name}{MANIFEST_SUFFIX}"

    def answers(
        self,
        backend: str,
        manifest: Manifest,
        outputs: tuple[str, ...] | None = None,
        batches: Path | None = None,
    ) -> list[dict[str, np.ndarray]] | str:
        """What a backend answers to batches of a file, else to the verification's: some outputs, or all.

        A text says why it cannot do here what the artifact asks of it.
        """
        job = AnswerJob(
            config=manifest.config,
            head=manifest.head,
            backend=backend,
            manifest=self.manifest_path(manifest),
            outputs=outputs,
            answers=self.folder / _ANSWERS,
            batches=batches,
        )
        result = self.run_job(job, AnswerResult, f"verify {backend}")
        if result.unsupported is not None:
            return str(result.unsupported)
        return verify.load_answers(job.answers)


def _check(results: Results, allowed: verify.Allowed, against: str) -> None:
    for backend, outputs in results.items():
        for name, errors in outputs.items():
            if not allowed.hold(errors):
                raise ExportError(
                    f"verification failed: {backend} differs from {against} by "
                    f"{errors.max_abs:.2e} in {name}, {errors.typical_abs:.2e} for a typical token, "
                    f"cosine {errors.cosine:.6f}, typical {errors.typical_cosine:.6f}; "
                    f"allowed: {allowed}; nothing was written"
                )
